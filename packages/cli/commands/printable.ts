/**
 * A stranger's text for a terminal: control characters, which could move the cursor, rename the window or hide what
 * follows, and the marks that turn the direction of writing are shown as escapes. Line breaks and tabs stay when asked for.
 */
export function printable(text: string, { lines = false }: { lines?: boolean } = {}): string {
  return text.replace(/[\p{Cc}\p{Cf}\u2028\u2029]/gu, (char) => {
    if (lines && (char === '\n' || char === '\t')) return char
    const code = char.codePointAt(0) ?? 0
    return code < 0x100 ? `\\x${code.toString(16).padStart(2, '0')}` : `\\u{${code.toString(16)}}`
  })
}

/** Cut to a length, and saying so. */
export function shortened(text: string, charsMax: number): string {
  return text.length <= charsMax ? text : `${text.slice(0, charsMax)}… (${text.length - charsMax} more characters)`
}
