import { parse, stringify } from 'node:querystring'

/**
 * The spellings of one registered URL that a provider may have signed. Each is tried with the secret, so more of
 * them can't make a forgery pass; the first is the URL as registered. A URL that can't be parsed has only that one.
 */
export type UrlForms = (url: string) => readonly string[]

/** Twilio signs with or without the port, whichever its back end saw, and re-encodes queries in an older way. */
export const twilioUrls: UrlForms = (url) => {
  if (!URL.canParse(url)) return [url]
  const bare = new URL(url)
  const port = bare.port || (bare.protocol === 'https:' ? '443' : '80')
  bare.port = ''
  const host = `${bare.protocol}//${userInfo(bare)}${bare.host}`
  const tail = bare.pathname + bare.search + bare.hash
  const both = [host + tail, `${host}:${port}${tail}`]
  const legacy =
    bare.search === ''
      ? []
      : both.map((form) => `${form.slice(0, form.indexOf('?'))}?${stringify(parse(bare.search.slice(1)))}`)
  return [...new Set([url, ...both, ...legacy])]
}

/** HubSpot signs the URL with these escapes decoded (its page on validating requests lists them). */
export const hubspotUrls: UrlForms = (url) => {
  const decoded = url.replaceAll(/%(?:3A|2F|3F|40|21|24|27|28|29|2A|2C|3B)/gi, (escape) => decodeURIComponent(escape))
  return decoded === url ? [url] : [url, decoded]
}

export const asRegistered: UrlForms = (url) => [url]

function userInfo(url: URL): string {
  if (url.username === '' && url.password === '') return ''
  return `${url.username}${url.password === '' ? '' : `:${url.password}`}@`
}
