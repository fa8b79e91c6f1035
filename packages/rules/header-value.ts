/** `value; name=value; name="quoted"`: the shape of Content-Type and Content-Disposition. */
export interface HeaderValue {
  /** Lower case, without blanks around it. */
  value: string
  /** Names in lower case; of a name given twice the first counts. */
  parameters: ReadonlyMap<string, string>
}

/**
 * Reads in one pass from left to right and never fails: whatever can't be read is left out. In quoted text a backslash
 * escapes only a quote or a backslash, since browsers send file names such as `C:\invoice.pdf` unescaped.
 */
export function parseHeaderValue(header: string): HeaderValue {
  const parameters = new Map<string, string>()
  let at = endOf(header, 0)
  const value = header.slice(0, at).trim().toLowerCase()
  while (at < header.length) {
    at += 1
    const end = endOf(header, at)
    const [name = ''] = header.slice(at, end).split('=', 1)
    let start = at + name.length + 1
    if (start > end) {
      at = end
      continue
    }
    while (header[start] === ' ' || header[start] === '\t') start += 1
    let parameter: string
    if (header[start] === '"') {
      const quoted = readQuoted(header, start + 1)
      parameter = quoted.text
      at = endOf(header, quoted.end)
    } else {
      at = endOf(header, start)
      parameter = header.slice(start, at).trim()
    }
    const key = name.trim().toLowerCase()
    if (key !== '' && !parameters.has(key)) parameters.set(key, parameter)
  }
  return { value, parameters }
}

function endOf(header: string, from: number): number {
  const end = header.indexOf(';', from)
  return end === -1 ? header.length : end
}

function readQuoted(header: string, from: number): { text: string; end: number } {
  let text = ''
  for (let i = from; i < header.length; i += 1) {
    const char = header[i]
    if (char === '"') return { text, end: i + 1 }
    const next = header[i + 1]
    if (char === '\\' && (next === '"' || next === '\\')) {
      text += next
      i += 1
    } else text += char
  }
  return { text, end: header.length }
}
