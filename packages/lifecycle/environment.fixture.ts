/** Reads two variables and prints them described: a process that starts only when they are right. */
import { describeEnvironment, readEnvironment } from './environment.ts'
import { databaseUrl, port } from './variables.ts'

const environment = readEnvironment({ DATABASE_URL: databaseUrl, PORT: port })
process.stdout.write(JSON.stringify(describeEnvironment(environment)))
