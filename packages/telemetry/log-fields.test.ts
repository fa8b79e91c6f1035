import { expect, test } from 'vitest'
import { censorFields, describeError } from './log-fields.ts'

test('fields without a secret are passed on as the same object', () => {
  const fields = { event: 'event.accepted', eventId: 'evt_1', timings: { totalMs: 3 }, reasons: ['a', 'b'], none: null }
  expect(censorFields(fields)).toBe(fields)
})

test('secrets are censored at every level that is shown, in any letter case, and the given object stays as it was', () => {
  const fields = {
    event: 'x',
    Authorization: 'Bearer s3cret',
    auth: { Token: 's3cret', user: 'ann' },
    list: [{ password: 's3cret' }, 7],
    a: { b: { secrets: ['s3cret'] } },
    headers: [['cookie', 's3cret']],
    body: 's3cret',
  }
  const before = structuredClone(fields)
  const shown = censorFields(fields)
  expect(JSON.stringify(shown)).not.toContain('s3cret')
  expect(shown).toMatchObject({ auth: { user: 'ann' }, list: [{ password: '[redacted]' }, 7] })
  expect(fields).toEqual(before)
})

test('bytes are shown by their number', () => {
  expect(censorFields({ response: Buffer.from('s3cret') })).toEqual({ response: '[6 bytes]' })
})

test('objects nested too deep, or around a circle, are cut off', () => {
  const circle: Record<string, unknown> = { name: 'circle' }
  circle['self'] = circle
  expect(JSON.parse(JSON.stringify(censorFields({ circle })))).toEqual({
    circle: { name: 'circle', self: { name: 'circle', self: '[too deep]' } },
  })
})

test('an error shows its type, message, code, stage, stack and causes, and none of its other fields', () => {
  const cause = Object.assign(new Error('duplicate key'), { code: '23505', detail: 'Key (email)=(ann@example.com)' })
  const error = Object.assign(new TypeError('commit failed', { cause }), {
    code: 'commit_failed',
    stage: 'commit',
    request: { authorization: 's3cret' },
  })
  const shown = describeError(error)
  expect(shown).toMatchObject({
    type: 'TypeError',
    message: 'commit failed',
    code: 'commit_failed',
    stage: 'commit',
    stack: expect.stringContaining('log-fields.test'),
    cause: { type: 'Error', message: 'duplicate key', code: '23505' },
  })
  expect(JSON.stringify(shown)).not.toMatch(/s3cret|ann@example/)
})

test('errors are shown wherever they stand in the fields', () => {
  expect(censorFields({ error: new Error('one'), list: [new Error('two')] })).toMatchObject({
    error: { message: 'one' },
    list: [{ message: 'two' }],
  })
})

test('an error that is its own cause, and one of many errors, end', () => {
  const error = new Error('round')
  error.cause = error
  expect(JSON.stringify(describeError(error)).split('"round"').length).toBeLessThan(10)
  const many = new AggregateError(Array.from({ length: 100 }, (_, index) => new Error(`no ${index}`)))
  expect(describeError(many)['errors']).toEqual(['no 0', 'no 1', 'no 2', 'no 3'])
})
