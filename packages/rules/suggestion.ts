/** Names longer than this are not compared: no name of ours is, and the work grows with the square. */
const lengthMax = 32

/** `; did you mean "x"?` when one of the names is at most two slips of a finger away, else nothing. */
export function suggest(written: string, names: readonly string[]): string {
  if (written.length > lengthMax) return ''
  let nearest: string | undefined
  let least = Math.min(3, written.length)
  for (const name of names) {
    const distance = editDistance(written.toLowerCase(), name.toLowerCase())
    if (distance < least) {
      least = distance
      nearest = name
    }
  }
  return nearest === undefined ? '' : `; did you mean "${nearest}"?`
}

/** Levenshtein: insertions, deletions and replacements. */
function editDistance(a: string, b: string): number {
  let previous = Array.from({ length: b.length + 1 }, (_, i) => i)
  for (let i = 1; i <= a.length; i += 1) {
    const row = [i]
    for (let j = 1; j <= b.length; j += 1) {
      const replaced = (previous[j - 1] ?? 0) + (a[i - 1] === b[j - 1] ? 0 : 1)
      row.push(Math.min((previous[j] ?? 0) + 1, (row[j - 1] ?? 0) + 1, replaced))
    }
    previous = row
  }
  return previous[b.length] ?? 0
}
