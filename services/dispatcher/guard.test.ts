import * as fc from 'fast-check'
import ipaddr from 'ipaddr.js'
import { describe, expect, test } from 'vitest'
import { createGuard, InvalidCidrError } from './guard.ts'

const guard = createGuard({ allowCidrs: [] })

describe('addresses, with nothing opened', () => {
  test.each([
    '8.8.8.8',
    '1.1.1.1',
    '100.63.255.255',
    '100.128.0.1',
    '172.32.0.1',
    '192.167.1.1',
    '223.255.255.254',
    '2606:4700::1111',
    '2a00:1450:4001::1',
  ])('%s is allowed', (address) => expect(guard.check(address)).toEqual({ kind: 'allowed' }))

  test.each([
    ['0.0.0.0', 'address_unspecified'],
    ['0.1.2.3', 'address_unspecified'],
    ['127.0.0.1', 'address_loopback'],
    ['127.255.255.254', 'address_loopback'],
    ['10.0.0.1', 'address_private'],
    ['172.16.0.1', 'address_private'],
    ['172.31.255.255', 'address_private'],
    ['192.168.1.1', 'address_private'],
    ['169.254.169.254', 'address_link_local'],
    ['100.64.0.1', 'address_shared'],
    ['100.100.100.200', 'address_shared'],
    ['168.63.129.16', 'address_cloud_metadata'],
    ['192.0.0.192', 'address_reserved'],
    ['192.0.2.1', 'address_documentation'],
    ['198.51.100.1', 'address_documentation'],
    ['203.0.113.1', 'address_documentation'],
    ['198.18.0.1', 'address_benchmarking'],
    ['192.88.99.1', 'address_reserved'],
    ['224.0.0.1', 'address_multicast'],
    ['239.255.255.255', 'address_multicast'],
    ['240.0.0.1', 'address_reserved'],
    ['255.255.255.255', 'address_broadcast'],
    ['::', 'address_unspecified'],
    ['::1', 'address_loopback'],
    ['fe80::1', 'address_link_local'],
    ['fe80::1%eth0', 'address_zone_id'],
    ['fec0::1', 'address_private'],
    ['fc00::1', 'address_unique_local'],
    ['fd00:ec2::254', 'address_unique_local'],
    ['ff02::1', 'address_multicast'],
    ['2001:db8::1', 'address_documentation'],
    ['3fff::1', 'address_documentation'],
    ['2001:2::1', 'address_benchmarking'],
    ['100::1', 'address_reserved'],
    ['4000::1', 'address_reserved'],
    ['5f00::1', 'address_reserved'],
    ['::ffff:10.0.0.1', 'address_ipv4_mapped'],
    ['::ffff:8.8.8.8', 'address_ipv4_mapped'],
    ['::10.0.0.1', 'address_ipv4_compatible'],
    ['::ffff:0:10.0.0.1', 'address_ipv4_translated'],
    ['64:ff9b::10.0.0.1', 'address_nat64'],
    ['64:ff9b::8.8.8.8', 'address_nat64'],
    ['64:ff9b:1::10.0.0.1', 'address_nat64'],
    ['2002:7f00:1::1', 'address_6to4'],
    ['2002:808:808::1', 'address_6to4'],
    ['2001:0:808:808::f5ff:fffe', 'address_teredo'],
    ['2606:4700::5efe:127.0.0.1', 'address_isatap'],
    ['2606:4700::200:5efe:127.0.0.1', 'address_isatap'],
    ['localhost', 'address_invalid'],
    ['2130706433', 'address_invalid'],
    ['0177.0.0.1', 'address_invalid'],
    ['127.1', 'address_invalid'],
    ['[::1]', 'address_invalid'],
    ['', 'address_invalid'],
  ])('%s is refused as %s', (address, code) => {
    expect(guard.check(address)).toEqual({ kind: 'blocked', code, detail: expect.stringContaining(' ') })
  })

  test('says which range an address fell into, and which address it carries', () => {
    expect(guard.check('10.1.2.3')).toMatchObject({ detail: '10.1.2.3 is in 10.0.0.0/8' })
    expect(guard.check('64:ff9b::7f00:1')).toMatchObject({
      detail: '64:ff9b::7f00:1 is in 64:ff9b::/96 and carries 127.0.0.1',
    })
  })

  test('nothing is allowed that an independent table calls special', () => {
    const ipv4 = fc.tuple(fc.nat(255), fc.nat(255), fc.nat(255), fc.nat(255)).map((bytes) => bytes.join('.'))
    const ipv6 = fc.oneof(
      fc.ipV6(),
      fc
        .tuple(fc.constantFrom('2001:', '2002:', '2606:4700:', '3fff:'), fc.nat(0xffff), fc.nat(0xffff))
        .map(([head, a, b]) => `${head}${a.toString(16)}::${b.toString(16)}`),
    )
    fc.assert(
      fc.property(fc.oneof(ipv4, ipv6), (address) => {
        if (guard.check(address).kind === 'allowed') expect(ipaddr.parse(address).range()).toBe('unicast')
      }),
      { numRuns: 5_000 },
    )
  })
})

describe('addresses, with CIDRs opened', () => {
  test('a CIDR opens what it covers and nothing beside it', () => {
    const opened = createGuard({ allowCidrs: ['10.1.0.0/16', 'fd00:1::/32', '127.0.0.1/32'] })
    for (const address of ['10.1.255.255', 'fd00:1::5', '127.0.0.1']) expect(opened.check(address).kind).toBe('allowed')
    for (const address of ['10.2.0.1', 'fd00:2::5', '127.0.0.2', '::1', '::ffff:10.1.0.1', '::ffff:127.0.0.1'])
      expect(opened.check(address).kind).toBe('blocked')
  })

  test('an opened NAT64 prefix reaches public addresses and no private ones', () => {
    const opened = createGuard({ allowCidrs: ['64:ff9b::/96'] })
    expect(opened.check('64:ff9b::8.8.8.8')).toEqual({ kind: 'allowed' })
    expect(opened.check('64:ff9b::10.0.0.1')).toMatchObject({ kind: 'blocked', code: 'address_nat64' })
    expect(opened.check('64:ff9b::169.254.169.254')).toMatchObject({ kind: 'blocked', code: 'address_nat64' })
  })

  test('all of IPv6 opened still reaches no private IPv4 address through a carrier', () => {
    const opened = createGuard({ allowCidrs: ['::/0'] })
    expect(opened.check('fe80::1')).toEqual({ kind: 'allowed' })
    for (const address of [
      '::ffff:10.0.0.1',
      '::10.0.0.1',
      '::ffff:0:10.0.0.1',
      '64:ff9b::a00:1',
      '2002:a00:1::',
      '2001:0:1::f5ff:fffe',
      '2606:4700::5efe:a00:1',
    ]) {
      expect(opened.check(address), address).toMatchObject({ kind: 'blocked' })
    }
  })

  test.each([
    ['10.0.0.0', /"10\.0\.0\.0" is not a CIDR.*write 10\.0\.0\.0\/32/],
    ['10.0.0.0/33', /is not a CIDR/],
    ['10.0.0.0/8/8', /is not a CIDR/],
    ['10.0.0.0/', /is not a CIDR/],
    ['10.0.0.0/-1', /is not a CIDR/],
    ['10/8', /is not a CIDR/],
    ['0x0a.0.0.0/8', /is not a CIDR/],
    ['::1/129', /is not a CIDR/],
    ['fe80::%eth0/10', /is not a CIDR/],
    ['internal/8', /is not a CIDR/],
    ['', /is not a CIDR/],
    ['10.0.0.1/8', /bits set behind its prefix: expected 10\.0\.0\.0\/8/],
    ['fd00::1/8', /bits set behind its prefix: expected fd00::\/8/],
  ])('the CIDR %j is refused with what was expected', (cidr, message) => {
    expect(() => createGuard({ allowCidrs: [cidr] })).toThrow(InvalidCidrError)
    expect(() => createGuard({ allowCidrs: [cidr] })).toThrow(message)
  })
})

describe('URLs', () => {
  test.each([
    'https://example.com/hook?a=1',
    'http://example.com:8080',
    'http://8.8.8.8/',
    'https://[2606:4700::1111]/',
    'http://receiver/hook',
    'https://example.com/a%20b?[%25',
  ])('%s is allowed', (url) => expect(guard.checkUrl(url)).toMatchObject({ kind: 'allowed' }))

  test.each([
    ['http://127.0.0.1/', 'address_loopback'],
    ['http://2130706433/', 'address_loopback'],
    ['http://0x7f000001/', 'address_loopback'],
    ['http://017700000001/', 'address_loopback'],
    ['http://0177.0.0.1/', 'address_loopback'],
    ['http://0x7f.0.0.1/', 'address_loopback'],
    ['http://127.1/', 'address_loopback'],
    ['http://127.0.1/', 'address_loopback'],
    ['http://127.0.0.1./', 'address_loopback'],
    ['http://%31%32%37.0.0.1/', 'address_loopback'],
    ['http://①②⑦.0.0.1/', 'address_loopback'],
    ['http://127。0。0。1/', 'address_loopback'],
    ['http:\\\\127.0.0.1\\', 'address_loopback'],
    ['http://0/', 'address_unspecified'],
    ['http://[::1]/', 'address_loopback'],
    ['http://[0:0:0:0:0:0:0:1]/', 'address_loopback'],
    ['http://[::ffff:127.0.0.1]/', 'address_ipv4_mapped'],
    ['http://[::127.0.0.1]/', 'address_ipv4_compatible'],
    ['http://[64:ff9b::7f00:1]/', 'address_nat64'],
    ['http://[2002:7f00:1::]/', 'address_6to4'],
    ['http://[fe80::1%25eth0]/', 'zone_id_refused'],
    ['http://[fe80::1%eth0]/', 'zone_id_refused'],
    ['http://localhost./', 'trailing_dot_refused'],
    ['http://example.com./', 'trailing_dot_refused'],
    ['http://example.com../', 'trailing_dot_refused'],
    ['http://me:secret@example.com/', 'userinfo_refused'],
    ['http://8.8.8.8@127.0.0.1/', 'userinfo_refused'],
    ['ftp://example.com/', 'scheme_refused'],
    ['file:///etc/passwd', 'scheme_refused'],
    ['javascript:alert(1)', 'scheme_refused'],
    ['/hook', 'url_invalid'],
    ['http://', 'url_invalid'],
    ['http://999.1.1.1/', 'url_invalid'],
    ['', 'url_invalid'],
  ])('%s is refused as %s', (url, code) => {
    expect(guard.checkUrl(url)).toMatchObject({ kind: 'blocked', code })
  })

  test('a refusal never repeats the password', () => {
    expect(JSON.stringify(guard.checkUrl('http://me:secret@example.com/'))).not.toContain('secret')
    expect(JSON.stringify(guard.checkUrl('http://me:secret@999.1.1.1/'))).not.toContain('secret')
  })
})
