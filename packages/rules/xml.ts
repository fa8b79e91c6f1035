import { SaxesParser } from 'saxes'

import { addField, emptyFields } from './fields.ts'
import { parsed, unparsed, type ParseFault, type ParseOutcome } from './parse-outcome.ts'

export const xmlDepthMax = 100
/** Elements and attributes together. A body of 1 MiB can't hold more; only larger or compressed ones can reach it. */
export const xmlValuesMax = 300_000

interface Open {
  name: string
  /** Attributes and children; undefined while the element has neither. */
  node: Record<string, XmlValue | XmlValue[]> | undefined
  text: string
}
type XmlValue = string | { [name: string]: XmlValue | XmlValue[] }

/**
 * Well-formed XML as `{ root: value }`. An element with text only is that string; otherwise it is an object with
 * attributes under `@_name`, children under their names (a list when repeated) and its own text, if any, under `#text`.
 * Text and CDATA are joined in order and blanks around them dropped. Names keep their namespace prefix. Every value is
 * a string: XML without a schema knows no numbers.
 *
 * A document type declaration is refused, so no entity but the five of XML and character references expands.
 */
export function parseXml(text: string): ParseOutcome {
  const parser = new SaxesParser({ position: false })
  const root = emptyFields<XmlValue | XmlValue[]>()
  const stack: Open[] = []
  let values = 0

  parser.on('error', () => {
    throw new Refusal({ code: 'malformed', reason: 'the body is not well-formed XML' })
  })
  parser.on('doctype', () => {
    throw new Refusal({ code: 'doctype_refused', reason: 'the XML has a document type declaration' })
  })
  parser.on('attribute', () => {
    count()
  })
  parser.on('opentag', ({ name, attributes }) => {
    count()
    if (stack.length >= xmlDepthMax)
      throw new Refusal({ code: 'too_deep', reason: `the XML is nested deeper than ${xmlDepthMax} levels` })
    const open: Open = { name, node: undefined, text: '' }
    for (const [attribute, value] of Object.entries(attributes)) nodeOf(open)[`@_${attribute}`] = value
    stack.push(open)
  })
  parser.on('text', addText)
  parser.on('cdata', addText)
  parser.on('closetag', () => {
    const open = stack.pop()
    if (!open) return
    const parent = stack.at(-1)
    addField(parent ? nodeOf(parent) : root, open.name, valueOf(open))
  })

  function count(): void {
    values += 1
    if (values > xmlValuesMax) {
      throw new Refusal({
        code: 'too_many_values',
        reason: `the XML has more than ${xmlValuesMax} elements and attributes`,
      })
    }
  }
  function addText(piece: string): void {
    const open = stack.at(-1)
    if (open) open.text += piece
  }

  try {
    parser.write(text).close()
    return parsed(root)
  } catch (error) {
    if (error instanceof Refusal) return unparsed(error.fault.code, error.fault.reason)
    // saxes throws past its error event where a document ends inside a document type declaration.
    return unparsed('malformed', 'the body is not well-formed XML')
  }
}

/** The way out of saxes' callbacks; never leaves this file. */
class Refusal extends Error {
  readonly fault: ParseFault
  constructor(fault: ParseFault) {
    super(fault.reason)
    this.fault = fault
  }
}

function nodeOf(open: Open): NonNullable<Open['node']> {
  open.node ??= emptyFields()
  return open.node
}

function valueOf(open: Open): XmlValue {
  const text = trimBlanks(open.text)
  if (!open.node) return text
  if (text !== '') open.node['#text'] = text
  return open.node
}

/** XML's blanks only (§2.3); a no-break space is text. */
function trimBlanks(text: string): string {
  let start = 0
  let end = text.length
  while (start < end && isBlank(text.charCodeAt(start))) start += 1
  while (end > start && isBlank(text.charCodeAt(end - 1))) end -= 1
  return text.slice(start, end)
}

function isBlank(code: number): boolean {
  return code === 32 || code === 9 || code === 10 || code === 13
}

/** The encoding an XML declaration names, read from its first bytes; it counts where Content-Type names none. */
export function xmlEncoding(body: Buffer): string | undefined {
  const opening = body.toString('latin1', 0, 200)
  return /^(?:ï»¿)?<\?xml[^>]*?\sencoding\s*=\s*["']([A-Za-z0-9._-]+)["']/.exec(opening)?.[1]
}
