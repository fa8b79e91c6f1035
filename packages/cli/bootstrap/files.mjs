/** What `act` gives; undefined when the file it is about does not exist. */
export function ifThere(act) {
  try {
    return act()
  } catch (error) {
    if (error.code === 'ENOENT') return undefined
    throw error
  }
}
