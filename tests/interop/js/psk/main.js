// A js-libp2p peer in a private mesh: `main.js FILE`, where FILE has its swarm key.
//
// It prints {"id", "addresses"} when it listens, and for each {"dial": multiaddr} on its standard input {"connected",
// "pinged", "echoed", "protocols"} or {"failed", "reason"}. It echoes what comes on /p2pboot/test/echo.

import { randomBytes } from 'node:crypto'
import { readFileSync } from 'node:fs'
import { createInterface } from 'node:readline'
import { identify } from '@libp2p/identify'
import { ping } from '@libp2p/ping'
import { preSharedKey } from '@libp2p/pnet'
import { multiaddr } from '@multiformats/multiaddr'
import { open, say } from '../shared.js'

const ECHO = '/p2pboot/test/echo'
const LENGTH = 3 << 20

const node = await open({
  addresses: { listen: ['/ip4/127.0.0.1/tcp/0'] },
  connectionProtector: preSharedKey({ psk: readFileSync(process.argv[2]) }),
  services: { identify: identify(), ping: ping() }
})

async function write (stream, data) {
  if (!stream.send(data)) await stream.onDrain()
}

await node.handle(ECHO, async (stream) => {
  for await (const data of stream) await write(stream, data)
  await stream.close()
})

async function sendAndCompare (address) {
  const stream = await node.dialProtocol(address, ECHO)
  const sent = randomBytes(LENGTH)
  const writing = (async () => {
    for (let at = 0; at < LENGTH; at += 65536) await write(stream, sent.subarray(at, at + 65536))
    await stream.close()
  })()
  const received = []
  for await (const data of stream) received.push(Buffer.from(data.subarray()))
  await writing
  if (!Buffer.concat(received).equals(sent)) throw new Error('what came back is something else')
}

for await (const line of createInterface({ input: process.stdin })) {
  const { dial } = JSON.parse(line)
  try {
    const address = multiaddr(dial)
    const connection = await node.dial(address, { signal: AbortSignal.timeout(10_000) })
    await node.services.ping.ping(address)
    await sendAndCompare(address)
    const { protocols } = await node.peerStore.get(connection.remotePeer)
    say({ connected: connection.remotePeer.toString(), pinged: true, echoed: LENGTH, protocols })
  } catch (error) {
    say({ failed: dial, reason: error.message })
  }
}
