/** Why a body stayed unparsed. Match on the code; the reason is for people and never quotes the body. */
export type ParseFault = {
  code:
    | 'unsupported_media_type'
    | 'unsupported_charset'
    | 'unsupported_encoding'
    | 'broken_encoding'
    | 'not_in_charset'
    | 'malformed'
    | 'doctype_refused'
    | 'too_large'
    | 'too_deep'
    | 'too_many_values'
  reason: string
}

export type ParseOutcome<T = unknown> = { kind: 'parsed'; value: T } | ({ kind: 'unparsed' } & ParseFault)

export function unparsed(code: ParseFault['code'], reason: string): { kind: 'unparsed' } & ParseFault {
  return { kind: 'unparsed', code, reason }
}

export function parsed<T>(value: T): { kind: 'parsed'; value: T } {
  return { kind: 'parsed', value }
}
