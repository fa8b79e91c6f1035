import { describe, expect, test } from 'vitest'
import { connectionSpec } from './connection.ts'

const spec = (order?: unknown) =>
  connectionSpec.safeParse({ name: 'a-to-b', source: 'a', destination: 'b', ...(order !== undefined && { order }) })

describe('the order of a connection', () => {
  test('is a path, which means hold, or a path with what a failure does', () => {
    expect(spec('body.id').data?.order).toEqual({ by: 'body.id', onFailure: 'hold' })
    expect(spec({ by: 'body.id' }).data?.order).toEqual({ by: 'body.id', onFailure: 'hold' })
    expect(spec({ by: 'body.id', onFailure: 'skip' }).data?.order).toEqual({ by: 'body.id', onFailure: 'skip' })
  })

  test('is absent unless it is asked for', () => {
    expect(spec().data).not.toHaveProperty('order')
  })

  test('as it is stored is read as itself', () => {
    const first = spec('body.id').data
    expect(connectionSpec.parse(JSON.parse(JSON.stringify(first)))).toEqual(first)
  })

  test.each([
    [''],
    [5],
    [null],
    [[]],
    [{}],
    [{ by: '' }],
    [{ by: 'x', onFailure: 'drop' }],
    [{ by: 'x', key: 'y' }],
    ['x'.repeat(501)],
  ])('can not be %j', (order) => {
    expect(spec(order).success).toBe(false)
  })
})
