/** Writes numbered lines to stdout, as many as its second argument says, and ends in the way that its first one names. */
import { createLogger } from './log.ts'

const log = createLogger({ service: 'fixture', level: 'info' })
const [, , ending, count] = process.argv
for (let n = 0; n < Number(count); n += 1) {
  log.info({ event: 'line', n })
  // Lets writes get under way, so that the end finds some in flight and some waiting.
  if (n % 1000 === 999) await new Promise((resolve) => setImmediate(resolve))
}
switch (ending) {
  case 'exit':
    process.exit(0)
    break
  case 'fatal-and-sigkill':
    log.fatal({ event: 'line', n: Number(count) })
    process.kill(process.pid, 'SIGKILL')
    break
  case 'wait':
    process.on('message', () => {})
    process.send?.('written')
    break
  default:
    break
}
