import { countPairs, pairsMax } from './body.ts'

/**
 * The parameters of a form body as Twilio and Mandrill sign them: sorted by name, each name followed by its value,
 * a repeated name's values sorted and each counted once, with nothing in between
 * (https://www.twilio.com/docs/usage/security). undefined when there are more than a provider would send.
 *
 * Works on bytes, so that escapes that are not valid UTF-8 stay apart instead of all becoming U+FFFD.
 */
export function sortedFormParameters(body: Buffer): Buffer | undefined {
  if (countPairs(body) > pairsMax) return undefined
  const parameters = new Map<string, Set<string>>()
  for (const pair of body.toString('latin1').split('&')) {
    if (pair === '') continue
    const equals = pair.indexOf('=')
    const name = unescape(equals === -1 ? pair : pair.slice(0, equals))
    const value = equals === -1 ? '' : unescape(pair.slice(equals + 1))
    const values = parameters.get(name)
    if (values) values.add(value)
    else parameters.set(name, new Set([value]))
  }
  let signed = ''
  for (const name of [...parameters.keys()].toSorted())
    for (const value of [...(parameters.get(name) ?? [])].toSorted()) signed += name + value
  return Buffer.from(signed, 'latin1')
}

/** `+` and percent escapes of a form, in a string of one character a byte; what is no escape stays as it is. */
function unescape(text: string): string {
  if (!/[+%]/.test(text)) return text
  return text
    .replaceAll('+', ' ')
    .replaceAll(/%([0-9a-fA-F]{2})/g, (_escape, hex: string) => String.fromCharCode(Number.parseInt(hex, 16)))
}
