import { RE2JS } from 're2js'

export const patternLengthMax = 512
/**
 * Steps of the compiled program, of one pattern and of all patterns of a filter. Matching is linear in the text and, at
 * worst, in these: 10 ms per step and MiB when a hostile text meets a pattern that is ambiguous on purpose
 * (`a[ab]{200}c`), so 5 s for the largest filter; a few ms per MiB in all for patterns that people write.
 */
export const patternStepsMax = 256
export const filterStepsMax = 512

export type Pattern =
  | { kind: 'pattern'; test: (text: string) => boolean; steps: number }
  | { kind: 'invalid'; message: string; expected: string }

const flags = { i: RE2JS.CASE_INSENSITIVE, m: RE2JS.MULTILINE, s: RE2JS.DOTALL }

/** RE2 syntax (https://github.com/google/re2/wiki/Syntax): no lookaround, no backreferences, and so no pattern that takes exponential time. */
export function compileRegex(source: string, options: string): Pattern {
  if (source.length > patternLengthMax)
    return invalid(
      `the pattern is longer than ${patternLengthMax} characters`,
      'a shorter pattern; $in for long lists of words',
    )
  let bits = 0
  for (const option of options) {
    if (option !== 'i' && option !== 'm' && option !== 's')
      return invalid(`unknown option "${option}"`, 'any of i, m and s')
    bits |= flags[option]
  }
  return compile(source, bits)
}

/** The whole text: `*` stands for any run of characters, `?` for one, a backslash before `*`, `?` or itself for that character. */
export function compileWildcard(source: string): Pattern {
  if (source.length > patternLengthMax)
    return invalid(`the pattern is longer than ${patternLengthMax} characters`, 'a shorter pattern')
  let regex = ''
  for (let i = 0; i < source.length; i += 1) {
    const char = source.charAt(i)
    const next = source.charAt(i + 1)
    if (char === '\\') {
      if (next !== '*' && next !== '?' && next !== '\\')
        return invalid('a backslash before an ordinary character', '\\*, \\? or \\\\')
      regex += `\\${next}`
      i += 1
    } else regex += char === '*' ? '.*' : char === '?' ? '.' : RE2JS.quote(char)
  }
  return compile(`\\A(?:${regex})\\z`, RE2JS.DOTALL)
}

function compile(source: string, bits: number): Pattern {
  try {
    const regex = RE2JS.compile(source, bits)
    const steps = regex.programSize()
    if (steps > patternStepsMax) {
      return invalid(
        `the pattern is too large: ${steps} steps, at most ${patternStepsMax}`,
        'a shorter pattern or smaller repeat counts; $in for long lists of words',
      )
    }
    return { kind: 'pattern', test: (text) => regex.test(text), steps }
  } catch (error) {
    const detail = error instanceof Error ? error.message.replace(/^error parsing regexp: /, '') : ''
    return invalid(`not a valid pattern: ${detail}`, 'RE2 syntax: no lookaround, no backreferences')
  }
}

function invalid(message: string, expected: string): Pattern {
  return { kind: 'invalid', message, expected }
}
