import { describe, expect, test } from 'vitest'
import { hasSession, openSession, sessionCookie, sessionCookieName, sessionMs } from './session.ts'

const token = 'one-admin-token-of-two'
const nowMs = 1_800_000_000_000
const cookieOf = (value: string, of = token) => `${sessionCookieName(of)}=${value}`

describe('a session', () => {
  test('holds for twelve hours and not a moment longer', () => {
    const cookie = cookieOf(openSession(token, nowMs))
    expect(hasSession(token, cookie, nowMs)).toBe(true)
    expect(hasSession(token, `theme=dark; ${cookie}; a=b`, nowMs + sessionMs - 1)).toBe(true)
    expect(hasSession(token, cookie, nowMs + sessionMs)).toBe(false)
  })

  test('ends with the token it was opened for', () => {
    const value = openSession(token, nowMs)
    expect(hasSession('another-admin-token', cookieOf(value), nowMs)).toBe(false)
    expect(hasSession('another-admin-token', cookieOf(value, 'another-admin-token'), nowMs)).toBe(false)
  })

  test('can be neither made up nor prolonged', () => {
    const value = openSession(token, nowMs)
    const [end = '', nonce = '', signature = ''] = value.split('.')
    const forged = [
      `${Number(end) + 1}.${nonce}.${signature}`,
      `${end}.${'A'.repeat(nonce.length)}.${signature}`,
      `${end}.${nonce}.${'A'.repeat(signature.length)}`,
      `${end}.${nonce}.`,
      `${end}.${nonce}`,
      '',
    ]
    for (const one of forged) expect(hasSession(token, cookieOf(one), nowMs), one).toBe(false)
    expect(hasSession(token, undefined, nowMs)).toBe(false)
    expect(hasSession(token, `session=${value}`, nowMs)).toBe(false)
  })

  test('is not the same text twice', () => {
    expect(openSession(token, nowMs)).not.toBe(openSession(token, nowMs))
  })

  test('its cookie is out of reach of scripts and other sites, and of plain HTTP once it came over HTTPS', () => {
    const cookie = sessionCookie(token, openSession(token, nowMs), true)
    expect(cookie).toMatch(/; Path=\/; Max-Age=43200; HttpOnly; SameSite=Strict; Secure$/)
    expect(sessionCookie(token, 'x', false)).not.toContain('Secure')
    expect(sessionCookie(token, '', true)).toContain('Max-Age=0')
  })
})
