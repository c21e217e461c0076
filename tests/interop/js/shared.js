// What the js peers share: what node 20 lacks, a libp2p with TCP, Noise and Yamux, and one JSON object a line.

Promise.withResolvers ??= function () {
  const made = {}
  made.promise = new this((resolve, reject) => Object.assign(made, { resolve, reject }))
  return made
}

const { noise } = await import('@chainsafe/libp2p-noise')
const { yamux } = await import('@chainsafe/libp2p-yamux')
const { tcp } = await import('@libp2p/tcp')
const { createLibp2p } = await import('libp2p')

export function say (what) {
  process.stdout.write(JSON.stringify(what) + '\n')
}

export async function open (options = {}) {
  const node = await createLibp2p({
    addresses: { listen: ['/ip4/0.0.0.0/tcp/0', '/ip6/::/tcp/0'] },
    transports: [tcp()],
    connectionEncrypters: [noise()],
    streamMuxers: [yamux()],
    ...options
  })
  say({ id: node.peerId.toString(), addresses: node.getMultiaddrs().map(String) })
  // It ends with its standard input.
  process.stdin.resume()
  process.stdin.on('end', () => process.exit(0))
  return node
}
