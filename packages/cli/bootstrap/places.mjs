import { dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'

export const root = join(dirname(fileURLToPath(import.meta.url)), '../../..')
export const bin = join(root, 'node_modules/.bin')

/** Node keeps what it made of our TypeScript here: services then start twice as fast and never load the compiler (30 MB each). */
export const compileCache = {
  NODE_COMPILE_CACHE: process.env.NODE_COMPILE_CACHE ?? join(root, 'node_modules/.cache/tenterhook'),
}
