import { z } from 'zod'

/** Names stand in URLs, labels and file paths: short, lower case, no separators that need escaping. */
export const name = z
  .string()
  .regex(
    /^[a-z0-9]([a-z0-9._-]{0,61}[a-z0-9])?$/,
    'expected 1–63 characters a–z, 0–9, "-", "_", "." that begin and end with a letter or digit',
  )
