export type TargetUrl =
  | { kind: 'url'; url: string }
  | { kind: 'blocked'; code: 'url_invalid' | 'path_refused'; detail: string }

export type ForwardedTarget = {
  forwardPath: boolean
  /** What followed `/in/{source}` in the request's target, as received: empty or beginning with "/". */
  rest: string
  /** The query as received, without "?". */
  query: string
}

/**
 * The URL of an attempt: the destination's own, and with path forwarding the rest of the sender's path and query behind
 * it. The sender's path stays under the destination's: dot segments are resolved against the rest alone, so that they
 * can't climb out, and those behind an encoded slash, which some servers decode first, are refused.
 */
export function targetUrl(destinationUrl: string, { forwardPath, rest, query }: ForwardedTarget): TargetUrl {
  if (!forwardPath) return { kind: 'url', url: destinationUrl }
  const url = URL.parse(destinationUrl)
  const resolved = URL.parse(`http://rest${rest === '' ? '' : encodeRest(rest)}`)
  if (url === null || resolved === null) return { kind: 'blocked', code: 'url_invalid', detail: 'not a valid URL' }
  if (/(^|[/\\])\.\.?([/\\]|$)/.test(decodeEscapes(resolved.pathname))) {
    return { kind: 'blocked', code: 'path_refused', detail: 'the forwarded path climbs with an encoded slash' }
  }
  if (resolved.pathname !== '/' || rest.startsWith('/'))
    url.pathname = url.pathname.replace(/\/$/, '') + resolved.pathname
  const queries = [url.search.slice(1), encodeBytes(query).replaceAll('#', '%23')].filter((part) => part !== '')
  url.search = queries.join('&')
  return { kind: 'url', url: url.href }
}

/** "?" and "#" in a path would end it. */
function encodeRest(rest: string): string {
  return encodeBytes(rest.startsWith('/') ? rest : `/${rest}`)
    .replaceAll('?', '%3F')
    .replaceAll('#', '%23')
}

/** Raw bytes of a request target were read as latin1: back to those bytes, not to the UTF-8 of those characters. */
function encodeBytes(text: string): string {
  return text.replace(/[\x80-\xff]/g, (byte) => `%${byte.charCodeAt(0).toString(16).toUpperCase()}`)
}

function decodeEscapes(path: string): string {
  return path.replace(/%(2e|2f|5c)/gi, (_escape, hex: string) => String.fromCharCode(parseInt(hex, 16)))
}
