import { createHmac, randomBytes, timingSafeEqual } from 'node:crypto'

/**
 * Browser sessions without a table: a cookie that says until when it holds, signed with a key derived from the admin
 * token. It ends with its time or with the token, whichever is first, and every copy of the console knows it.
 */
export const sessionMs = 12 * 3_600_000
/** Of random bytes, so that two sessions are never the same text. */
const nonceBytes = 9

/** Named after the token, so that two copies on one machine, which share cookies across ports, don't end each other's sessions. */
export function sessionCookieName(token: string): string {
  return `tenterhook_session_${createHmac('sha256', token).update('tenterhook session cookie name').digest('hex').slice(0, 8)}`
}

/** The value of a new session's cookie: `<end in Unix seconds>.<nonce>.<signature>`. */
export function openSession(token: string, nowMs: number): string {
  const said = `${Math.floor((nowMs + sessionMs) / 1_000)}.${randomBytes(nonceBytes).toString('base64url')}`
  return `${said}.${sign(token, said)}`
}

/** Whether the request's Cookie header carries a session that still holds under this token. */
export function hasSession(token: string, cookieHeader: string | undefined, nowMs: number): boolean {
  const name = sessionCookieName(token)
  for (const pair of cookieHeader?.split(';') ?? []) {
    const [found, value = ''] = pair.trim().split('=', 2)
    if (found === name && holds(token, value, nowMs)) return true
  }
  return false
}

function holds(token: string, value: string, nowMs: number): boolean {
  const match = /^((\d{1,12})\.[\w-]{12})\.([\w-]{43})$/.exec(value)
  if (!match?.[1] || !match[3]) return false
  const signed = timingSafeEqual(Buffer.from(sign(token, match[1])), Buffer.from(match[3]))
  return signed && Number(match[2]) * 1_000 > nowMs
}

function sign(token: string, said: string): string {
  const key = createHmac('sha256', token).update('tenterhook session key').digest()
  return createHmac('sha256', key).update(said).digest('base64url')
}

/** The Set-Cookie header of a session, or, with an empty value, of its end. */
export function sessionCookie(token: string, value: string, secure: boolean): string {
  const maxAgeSeconds = value === '' ? 0 : sessionMs / 1_000
  return `${sessionCookieName(token)}=${value}; Path=/; Max-Age=${maxAgeSeconds}; HttpOnly; SameSite=Strict${secure ? '; Secure' : ''}`
}
