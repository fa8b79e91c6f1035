/** A destination that is to be stopped (SIGSTOP) as soon as it listens: nobody accepts what comes then. Its port is its argument. */
import { createServer } from 'node:http'

// A queue of one: further connections are not even shaken hands with.
createServer((request, response) => {
  request.resume().on('end', () => response.end())
}).listen({ host: '127.0.0.1', port: Number(process.argv[2]), backlog: 1 })
