/**
 * The smallest and the largest of these ids. A statement that is given both opens only the partitions between them: with a
 * month of partitions, opening all of them took Postgres as long as the work itself.
 */
export function idBounds(ids: readonly string[]): { lowest: string; highest: string } {
  let [lowest = '', highest = ''] = [ids[0], ids[0]]
  for (const id of ids) {
    if (id < lowest) lowest = id
    if (id > highest) highest = id
  }
  return { lowest, highest }
}
