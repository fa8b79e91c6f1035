/**
 * The address guard: which addresses and URLs may be delivered to.
 *
 * Only global unicast addresses, unless a CIDR of the operator's covers the address. An IPv6 address that carries an
 * IPv4 address must be opened by a CIDR of its own *and* carry an address that is allowed by itself: opening NAT64 for
 * a network that needs it opens no way into 10.0.0.0/8.
 *
 * It judges addresses, never names: names are judged by what they resolve to, at the moment of connecting (connect.ts).
 */
import { isIP } from 'node:net'
import ipaddr from 'ipaddr.js'
import { ipv4Carriers, ipv4Special, ipv6Global, ipv6Special, isatapIPv4 } from './address-ranges.ts'
import type { AddressCode, Cidr } from './address-ranges.ts'

/** Faults of a URL itself: no change of network or DNS mends them. */
export type UrlCode = 'url_invalid' | 'scheme_refused' | 'userinfo_refused' | 'zone_id_refused' | 'trailing_dot_refused'

export type Allowed = { kind: 'allowed' }
export type Blocked<Code extends string = AddressCode | UrlCode> = { kind: 'blocked'; code: Code; detail: string }

export type Guard = {
  /** Judges an address as the network writes it: IPv4 in four decimal parts, IPv6 without brackets. */
  check(address: string): Allowed | Blocked<AddressCode>
  /**
   * Judges a URL before anything is resolved: http or https, no user information, no zone id, no dot at the end of the
   * host, and the address when the host is one. Decimal, octal, hex and short IPv4 forms become four decimal parts by
   * the URL standard's own parser, the same that the connection is made from. `detail` never repeats user information.
   */
  checkUrl(text: string): { kind: 'allowed'; url: URL } | Blocked
}

/** An operator's CIDR that can't be meant as it stands. */
export class InvalidCidrError extends Error {
  readonly code = 'invalid_cidr'
}

const allowed: Allowed = { kind: 'allowed' }

/** @throws InvalidCidrError for a CIDR that is malformed or has bits set behind its prefix. */
export function createGuard({ allowCidrs }: { allowCidrs: readonly string[] }): Guard {
  const opened = allowCidrs.map(parseCidr)

  function opens(address: ipaddr.IPv4 | ipaddr.IPv6): boolean {
    return opened.some(({ network, bits }) => network.kind() === address.kind() && address.match(network, bits))
  }

  function checkIPv4(address: ipaddr.IPv4): Allowed | Blocked<AddressCode> {
    if (opens(address)) return allowed
    const range = ipv4Special.find(({ network, bits }) => address.match(network, bits))
    return range === undefined ? allowed : refuse(address.toString(), range.code, `is in ${range.cidr}`)
  }

  function checkIPv6(address: ipaddr.IPv6): Allowed | Blocked<AddressCode> {
    const text = address.toRFC5952String()
    const isatap = isatapIPv4(address)
    if (isatap !== undefined && checkIPv4(isatap).kind === 'blocked') {
      return refuse(text, 'address_isatap', `carries ${isatap.toString()}, which is not allowed`)
    }
    const special = ipv6Special.find(({ network, bits }) => address.match(network, bits))
    const carrier = ipv4Carriers.find(({ network, bits }) => address.match(network, bits))
    if (carrier !== undefined && special?.code !== 'address_unspecified' && special?.code !== 'address_loopback') {
      const inner = carrier.embedded(address)
      if (opens(address) && checkIPv4(inner).kind === 'allowed') return allowed
      return refuse(text, carrier.code, `is in ${carrier.cidr} and carries ${inner.toString()}`)
    }
    if (opens(address)) return allowed
    if (special !== undefined) return refuse(text, special.code, `is in ${special.cidr}`)
    if (!address.match(ipv6Global.network, ipv6Global.bits))
      return refuse(text, 'address_reserved', `is not in ${ipv6Global.cidr}`)
    return allowed
  }

  function check(text: string): Allowed | Blocked<AddressCode> {
    if (text.includes('%')) return refuse(text, 'address_zone_id', 'has a zone id')
    if (isIP(text) === 0) return refuse(text, 'address_invalid', 'is not an IP address')
    return isIP(text) === 4 ? checkIPv4(ipaddr.IPv4.parse(text)) : checkIPv6(parseIPv6(text))
  }

  function checkUrl(text: string): { kind: 'allowed'; url: URL } | Blocked {
    if (/\/\/[^/?#]*\[[^\]]*%/.test(text))
      return { kind: 'blocked', code: 'zone_id_refused', detail: 'the host has a zone id' }
    const url = URL.parse(text)
    if (url === null) return { kind: 'blocked', code: 'url_invalid', detail: 'not a valid URL' }
    if (url.protocol !== 'http:' && url.protocol !== 'https:') {
      return {
        kind: 'blocked',
        code: 'scheme_refused',
        detail: `expected http or https, not ${url.protocol.slice(0, -1)}`,
      }
    }
    if (url.username !== '' || url.password !== '') {
      return {
        kind: 'blocked',
        code: 'userinfo_refused',
        detail: "the URL holds a user or password: use the destination's auth",
      }
    }
    if (url.hostname.endsWith('.')) {
      return { kind: 'blocked', code: 'trailing_dot_refused', detail: `the host ${url.hostname} ends with a dot` }
    }
    const host = hostOf(url)
    if (isIP(host) !== 0) {
      const verdict = check(host)
      if (verdict.kind === 'blocked') return verdict
    }
    return { kind: 'allowed', url }
  }

  return { check, checkUrl }
}

/** The host to resolve or connect to: an IPv6 address without the brackets it wears in a URL. */
export function hostOf(url: URL): string {
  return url.hostname.startsWith('[') ? url.hostname.slice(1, -1) : url.hostname
}

function refuse(address: string, code: AddressCode, why: string): Blocked<AddressCode> {
  return { kind: 'blocked', code, detail: `${address} ${why}` }
}

/** The last four bytes in hex first: ipaddr.js reads `::10.0.0.1` as the mapped `::ffff:10.0.0.1`, another address. */
function parseIPv6(text: string): ipaddr.IPv6 {
  const inHex = text.replace(/\d+\.\d+\.\d+\.\d+$/, (tail) => {
    const [a = 0, b = 0, c = 0, d = 0] = tail.split('.').map(Number)
    return `${(a * 256 + b).toString(16)}:${(c * 256 + d).toString(16)}`
  })
  return ipaddr.IPv6.parse(inHex)
}

function parseCidr(text: string): Cidr<ipaddr.IPv4 | ipaddr.IPv6> {
  const [base = '', prefix = ''] = text.split('/')
  const family = isIP(base)
  const bitsMax = family === 4 ? 32 : 128
  if (
    family === 0 ||
    base.includes('%') ||
    text !== `${base}/${prefix}` ||
    !/^\d{1,3}$/.test(prefix) ||
    Number(prefix) > bitsMax
  ) {
    const hint =
      family !== 0 && prefix === ''
        ? `: write ${base}/${bitsMax} for this one address`
        : ', such as 10.0.0.0/8 or fd00::/8'
    throw new InvalidCidrError(
      `${JSON.stringify(text)} is not a CIDR: expected an address, "/" and a prefix length${hint}`,
    )
  }
  const address = family === 4 ? ipaddr.IPv4.parse(base) : parseIPv6(base)
  const bits = Number(prefix)
  const network =
    address instanceof ipaddr.IPv4
      ? ipaddr.IPv4.networkAddressFromCIDR(text)
      : ipaddr.IPv6.networkAddressFromCIDR(`${address.toString()}/${bits}`)
  if (!address.match(network, bitsMax)) {
    throw new InvalidCidrError(
      `${JSON.stringify(text)} has bits set behind its prefix: expected ${network.toString()}/${bits}, or a longer prefix`,
    )
  }
  return { cidr: text, network, bits }
}
