import ipaddr from 'ipaddr.js'

/** Why an address is not one to deliver to. The codes are stored with attempts: add, never rename. */
export type AddressCode =
  | 'address_invalid'
  | 'address_zone_id'
  | 'address_unspecified'
  | 'address_loopback'
  | 'address_private'
  | 'address_link_local'
  | 'address_shared'
  | 'address_unique_local'
  | 'address_multicast'
  | 'address_broadcast'
  | 'address_documentation'
  | 'address_benchmarking'
  | 'address_cloud_metadata'
  | 'address_reserved'
  | 'address_ipv4_mapped'
  | 'address_ipv4_compatible'
  | 'address_ipv4_translated'
  | 'address_nat64'
  | 'address_6to4'
  | 'address_teredo'
  | 'address_isatap'

/** A block of addresses; `cidr` is kept for people, `network` and `bits` for matching. */
export type Cidr<A> = { cidr: string; network: A; bits: number }
export type SpecialRange<A> = Cidr<A> & { code: AddressCode }

/**
 * IPv4 blocks that are not global unicast: IANA IPv4 Special-Purpose Address Registry, multicast and class E. The
 * anycast blocks that IANA calls reachable (AS112, AMT) are refused with the rest: nobody receives webhooks there.
 * First match wins.
 */
export const ipv4Special: ReadonlyArray<SpecialRange<ipaddr.IPv4>> = (
  [
    ['255.255.255.255/32', 'address_broadcast'],
    ['0.0.0.0/8', 'address_unspecified'],
    ['127.0.0.0/8', 'address_loopback'],
    ['10.0.0.0/8', 'address_private'],
    ['172.16.0.0/12', 'address_private'],
    ['192.168.0.0/16', 'address_private'],
    ['169.254.0.0/16', 'address_link_local'],
    ['100.64.0.0/10', 'address_shared'],
    // Azure's host answers metadata and credentials here: a public address only in name.
    ['168.63.129.16/32', 'address_cloud_metadata'],
    ['192.0.2.0/24', 'address_documentation'],
    ['198.51.100.0/24', 'address_documentation'],
    ['203.0.113.0/24', 'address_documentation'],
    ['198.18.0.0/15', 'address_benchmarking'],
    ['192.0.0.0/24', 'address_reserved'],
    ['192.31.196.0/24', 'address_reserved'],
    ['192.52.193.0/24', 'address_reserved'],
    ['192.88.99.0/24', 'address_reserved'],
    ['192.175.48.0/24', 'address_reserved'],
    ['224.0.0.0/4', 'address_multicast'],
    ['240.0.0.0/4', 'address_reserved'],
  ] as const
).map(([cidr, code]) => ({ cidr, code, network: ipaddr.IPv4.parseCIDR(cidr)[0], bits: ipaddr.IPv4.parseCIDR(cidr)[1] }))

/** The only IPv6 block that IANA hands out as global unicast (RFC 4291 §2.4, RFC 3587); all else is refused. */
export const ipv6Global = ipv6Block('2000::/3')

/** Blocks inside and outside 2000::/3 with a reason of their own: IANA IPv6 Special-Purpose Address Registry. */
export const ipv6Special: ReadonlyArray<SpecialRange<ipaddr.IPv6>> = (
  [
    ['::/128', 'address_unspecified'],
    ['::1/128', 'address_loopback'],
    ['fe80::/10', 'address_link_local'],
    ['fec0::/10', 'address_private'],
    ['fc00::/7', 'address_unique_local'],
    ['ff00::/8', 'address_multicast'],
    ['2001:2::/48', 'address_benchmarking'],
    ['2001:db8::/32', 'address_documentation'],
    ['3fff::/20', 'address_documentation'],
    ['2001::/23', 'address_reserved'],
    ['2620:4f:8000::/48', 'address_reserved'],
  ] as const
).map(([cidr, code]) => ({ code, ...ipv6Block(cidr) }))

export type Carrier = SpecialRange<ipaddr.IPv6> & {
  /** The IPv4 address that a packet sent there ends at. */
  embedded(address: ipaddr.IPv6): ipaddr.IPv4
}

/** IPv6 blocks whose addresses carry an IPv4 address: the way round a guard that reads only the outer one. */
export const ipv4Carriers: readonly Carrier[] = [
  // RFC 4291 §2.5.5.2, §2.5.5.1; RFC 2765 §2.1 (SIIT)
  { code: 'address_ipv4_mapped', ...ipv6Block('::ffff:0:0/96'), embedded: (address) => ipv4At(address, 12) },
  { code: 'address_ipv4_compatible', ...ipv6Block('::/96'), embedded: (address) => ipv4At(address, 12) },
  { code: 'address_ipv4_translated', ...ipv6Block('::ffff:0:0:0/96'), embedded: (address) => ipv4At(address, 12) },
  // RFC 6052 §2.1; RFC 8215 in its /96 form, the one DNS64 makes
  { code: 'address_nat64', ...ipv6Block('64:ff9b::/96'), embedded: (address) => ipv4At(address, 12) },
  { code: 'address_nat64', ...ipv6Block('64:ff9b:1::/48'), embedded: (address) => ipv4At(address, 12) },
  // RFC 3056 §2
  { code: 'address_6to4', ...ipv6Block('2002::/16'), embedded: (address) => ipv4At(address, 2) },
  // RFC 4380 §4: the client's address stands last, with its bits turned over
  { code: 'address_teredo', ...ipv6Block('2001::/32'), embedded: (address) => ipv4At(address, 12, 0xff) },
]

/** The IPv4 address of an ISATAP interface id (RFC 5214 §6.1), which may stand under any prefix. */
export function isatapIPv4(address: ipaddr.IPv6): ipaddr.IPv4 | undefined {
  const [, , , , flags = 0, marker] = address.parts
  return (flags & ~0x0200) === 0 && marker === 0x5efe ? ipv4At(address, 12) : undefined
}

function ipv4At(address: ipaddr.IPv6, offset: number, xor = 0): ipaddr.IPv4 {
  return new ipaddr.IPv4(
    address
      .toByteArray()
      .slice(offset, offset + 4)
      .map((byte) => byte ^ xor),
  )
}

function ipv6Block(cidr: string): Cidr<ipaddr.IPv6> {
  const [network, bits] = ipaddr.IPv6.parseCIDR(cidr)
  return { cidr, network, bits }
}
