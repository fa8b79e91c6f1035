import { isIP } from 'node:net'
import ipaddr from 'ipaddr.js'

type Address = ipaddr.IPv4 | ipaddr.IPv6

/** An address is compared with each of them. */
export const networksMax = 100

export type Networks =
  | { kind: 'networks'; contain: (address: string) => boolean }
  | { kind: 'invalid'; message: string; at: number }

interface Network {
  address: Address
  prefix: number
}

/**
 * IPv4 and IPv6 networks in CIDR form. IPv4 addresses written as IPv6 (`::ffff:10.0.0.1`) count as IPv4, in the
 * network and in the value. Only ordinary notation is an address: `0x7f.1` and `127.1` are none.
 */
export function parseNetworks(cidrs: readonly string[]): Networks {
  const networks: Network[] = []
  for (const [at, cidr] of cidrs.entries()) {
    const network = parseNetwork(cidr)
    if (typeof network === 'string') return { kind: 'invalid', message: network, at }
    networks.push(network)
  }
  return {
    kind: 'networks',
    contain: (text) => {
      const written = parseAddress(text)
      if (!written) return false
      const address = unmap(written)
      return networks.some(
        (network) => network.address.kind() === address.kind() && address.match(network.address, network.prefix),
      )
    },
  }
}

/** The network, or what is wrong with it. */
function parseNetwork(cidr: string): Network | string {
  const slash = cidr.lastIndexOf('/')
  const written = parseAddress(slash === -1 ? cidr : cidr.slice(0, slash))
  if (!written) return `"${cidr}" is no network`
  const bits = written.kind() === 'ipv4' ? 32 : 128
  if (slash === -1) return `"${cidr}" has no prefix length; write "${cidr}/${bits}" for one address`
  const length = cidr.slice(slash + 1)
  if (!/^\d{1,3}$/.test(length) || Number(length) > bits) return `"${cidr}" has no prefix length from 0 to ${bits}`

  const address = unmap(written)
  const prefix = address === written ? Number(length) : Number(length) - 96
  if (prefix < 0) return `"${cidr}" is neither an IPv4 nor an IPv6 network`
  const first = firstAddress(address, prefix)
  if (first !== address.toString()) return `"${cidr}" has bits behind its prefix; did you mean "${first}/${prefix}"?`
  return { address, prefix }
}

/** ipaddr.js also reads octal, hexadecimal and shortened forms; `isIP` lets only the ordinary ones through. */
function parseAddress(text: string): Address | undefined {
  return isIP(text) === 0 ? undefined : ipaddr.parse(text)
}

function unmap(address: Address): Address {
  return address instanceof ipaddr.IPv6 && address.isIPv4MappedAddress() ? address.toIPv4Address() : address
}

function firstAddress(address: Address, prefix: number): string {
  const cidr = `${address.toString()}/${prefix}`
  return (
    address.kind() === 'ipv4' ? ipaddr.IPv4.networkAddressFromCIDR(cidr) : ipaddr.IPv6.networkAddressFromCIDR(cidr)
  ).toString()
}
