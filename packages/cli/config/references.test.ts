import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { fillFile, fillVariables } from './references.ts'

const environment = { SECRET: 's3cret', EMPTY: '', NESTED: '${SECRET}' }

describe('variables', () => {
  test.each([
    ['a text without references stays as it is', '$5 {a} $SECRET', '$5 {a} $SECRET'],
    ['a variable', '${SECRET}', 's3cret'],
    ['several, within a text', 'a-${SECRET}-${SECRET}', 'a-s3cret-s3cret'],
    ['a fallback counts when it is not set', '${MISSING:-other}', 'other'],
    ['a fallback counts when it is empty', '${EMPTY:-other}', 'other'],
    ['a fallback may be empty, and may hold colons and dashes', '${MISSING:-}|${MISSING:-a:-b}', '|a:-b'],
    ['a set variable wins over its fallback', '${SECRET:-other}', 's3cret'],
    ['two dollars are one, and no reference', '$${SECRET}', '${SECRET}'],
    ['what a variable holds is not read again', '${NESTED}', '${SECRET}'],
  ])('%s', (_, text, value) => {
    expect(fillVariables(text, environment)).toEqual({ kind: 'resolved', value })
  })

  test.each([
    ['a missing one', '${MISSING} ${MISSING} ${EMPTY}', 'MISSING, EMPTY is not set'],
    ['one that is not closed', 'a ${SECRET', '${ is not a reference'],
    ['one without a name', '${}', '${} is not a reference'],
    ['a name that is none', '${1A}', '${1A} is not a reference'],
    ['a fallback written in another way', '${SECRET-other}', '${SECRET-other} is not a reference'],
    ['one inside another', '${MISSING:-${SECRET}}', '${MISSING:-${SECRET} is not a reference'],
  ])('%s is refused, never used as it stands', (_, text, message) => {
    expect(fillVariables(text, environment)).toMatchObject({ kind: 'unresolved', message })
  })
})

describe('files', () => {
  let directory: string
  beforeAll(async () => {
    directory = await mkdtemp(join(tmpdir(), 'references-'))
    await writeFile(join(directory, 'secret'), 'line one\nline two\r\n')
    await writeFile(join(directory, 'large'), Buffer.alloc(64 * 1_024 + 1, 'a'))
    await writeFile(join(directory, 'full'), Buffer.alloc(64 * 1_024, 'a'))
  })
  afterAll(() => rm(directory, { recursive: true }))

  test('give their text without the last line break, relative to the configuration or not', async () => {
    const value = 'line one\nline two'
    expect(await fillFile('file:secret', directory)).toEqual({ kind: 'resolved', value })
    expect(await fillFile(`file:${join(directory, 'secret')}`, '/')).toEqual({ kind: 'resolved', value })
    expect(await fillFile('not file:secret', directory)).toEqual({ kind: 'resolved', value: 'not file:secret' })
  })

  test('that are missing, too large or no files are refused', async () => {
    const message = async (text: string) => {
      const filled = await fillFile(text, directory)
      return filled.kind === 'unresolved' ? filled.message : 'resolved'
    }
    expect(await message('file:missing')).toBe("missing can't be read (ENOENT)")
    expect(await message('file:.')).toBe(". can't be read (EISDIR)")
    expect(await message('file:large')).toBe('large is larger than 65536 bytes')
    expect(await message('file:full')).toBe('resolved')
  })
})
