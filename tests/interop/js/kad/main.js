// A js-libp2p peer with @libp2p/kad-dht as it comes, except that it takes private addresses and values under /phase/.
//
// What it prints and is told is as with go/kad: {"id", "addresses"} when it listens, then an answer for each command.

import { createInterface } from 'node:readline'
import { identify } from '@libp2p/identify'
import { kadDHT, passthroughMapper } from '@libp2p/kad-dht'
import { ping } from '@libp2p/ping'
import { multiaddr } from '@multiformats/multiaddr'
import { CID } from 'multiformats/cid'
import { open, say } from '../shared.js'

const node = await open({
  addresses: { listen: ['/ip4/127.0.0.1/tcp/0'] },
  services: {
    identify: identify(),
    ping: ping(),
    dht: kadDHT({
      protocol: '/ipfs/kad/1.0.0',
      clientMode: false,
      peerInfoMapper: passthroughMapper,
      validators: { phase: async () => {} },
      selectors: { phase: () => 0 }
    })
  }
})
const { dht } = node.services
const limit = () => ({ signal: AbortSignal.timeout(20_000) })

async function all (events) {
  const seen = []
  for await (const event of events) seen.push(event)
  return seen
}

const does = {
  async dial ({ address }) {
    const { remotePeer } = await node.dial(multiaddr(address), limit())
    while (await dht.routingTable.find(remotePeer) === undefined) { // it has said that it is a server
      await new Promise((resolve) => setTimeout(resolve, 10))
    }
  },
  async put ({ key, value }) {
    await all(dht.put(Buffer.from(key), Buffer.from(value), limit()))
  },
  async get ({ key }) {
    const events = await all(dht.get(Buffer.from(key), limit()))
    return events.filter(({ name }) => name === 'VALUE').map(({ value }) => Buffer.from(value).toString())[0] ?? ''
  },
  async provide ({ cid }) {
    await all(dht.provide(CID.parse(cid), limit()))
  },
  async find ({ cid }) {
    const events = await all(dht.findProviders(CID.parse(cid), limit()))
    return [...new Set(events.flatMap(({ providers }) => providers ?? []).map(({ id }) => id.toString()))]
  }
}

for await (const line of createInterface({ input: process.stdin })) {
  const told = JSON.parse(line)
  try {
    say({ done: told.op, found: await does[told.op](told) ?? null })
  } catch (error) {
    say({ done: told.op, found: null, error: error.message })
  }
}
