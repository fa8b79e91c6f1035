/** One thing that doctor looked at. `todo`: what to do about it. */
export interface Check {
  outcome: 'ok' | 'warn' | 'fail'
  name: string
  says: string
  todo?: string
}

export function ok(name: string, says: string): Check {
  return { outcome: 'ok', name, says }
}

export function warn(name: string, says: string, todo: string): Check {
  return { outcome: 'warn', name, says, todo }
}

export function fail(name: string, says: string, todo: string): Check {
  return { outcome: 'fail', name, says, todo }
}

const nameChars = 12

export function checkLines({ outcome, name, says, todo }: Check): string[] {
  const indent = ' '.repeat(6 + nameChars)
  return [`${outcome.padEnd(6)}${name.padEnd(nameChars)}${says}`, ...(todo === undefined ? [] : [`${indent}→ ${todo}`])]
}
