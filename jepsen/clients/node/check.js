// kafkajs: node check.js BOOTSTRAP. Result lines and environment as in ../README.md.
'use strict'
const { execFileSync } = require('node:child_process')
const { randomBytes } = require('node:crypto')
const { Kafka, CompressionTypes, CompressionCodecs, logLevel } = require('kafkajs')
const lz4 = require('lz4-napi')
const zstd = require('@mongodb-js/zstd')

// kafkajs brings gzip alone. The packages that its documentation names for lz4 and zstd do not run on Node 20 (kafkajs-lz4
// 2.0 fetches its own file by URL, @kafkajs/zstd no longer compiles): these two lines are what an application writes instead.
CompressionCodecs[CompressionTypes.Snappy] = require('kafkajs-snappy')
CompressionCodecs[CompressionTypes.LZ4] = () => ({ compress: ({ buffer }) => lz4.compressFrame(buffer), decompress: (buffer) => lz4.decompressFrame(buffer) })
CompressionCodecs[CompressionTypes.ZSTD] = () => ({ compress: ({ buffer }) => zstd.compress(buffer), decompress: (buffer) => zstd.decompress(buffer) })
const CODECS = { none: CompressionTypes.None, gzip: CompressionTypes.GZIP, snappy: CompressionTypes.Snappy, lz4: CompressionTypes.LZ4, zstd: CompressionTypes.ZSTD }
const NAME = process.env.CLIENT || 'kafkajs'
const PARTITIONS = 3
const topic = `kafkajs-${randomBytes(4).toString('hex')}`
const kafka = new Kafka({
  clientId: NAME,
  brokers: process.argv[2].split(','),
  logLevel: logLevel.NOTHING,
  retry: { initialRetryTime: 100, maxRetryTime: 1000, retries: 60 },
})
const admin = kafka.admin()
let failed = false

const sleep = (ms) => new Promise((done) => setTimeout(done, ms))

async function until(what, condition, ms = 45000) {
  for (const end = Date.now() + ms; !(await condition()); await sleep(20)) {
    if (Date.now() > end) throw new Error(`${what}: not within ${ms / 1000} s`)
  }
}

async function check(name, action) {
  try {
    console.log(`${NAME} ${name} PASS ${await action()}`)
  } catch (error) {
    failed = true
    console.log(`${NAME} ${name} FAIL ${String(error.message).replaceAll('\n', ' ')}`)
  }
}

async function leader(partition) {
  const { topics } = await admin.fetchTopicMetadata({ topics: [topic] })
  return topics[0].partitions.find((p) => p.partitionId === partition)?.leader
}

async function createTopic() {
  await admin.createTopics({ topics: [{ topic, numPartitions: PARTITIONS, replicationFactor: 3 }] })
  await until('partition leaders', async () => (await leader(0)) > 0)
  return `${PARTITIONS} partitions, 3 replicas`
}

// A group member that remembers what it owns and what it has read.
async function join(groupId) {
  const consumer = kafka.consumer({ groupId, sessionTimeout: 6000, heartbeatInterval: 500, rebalanceTimeout: 10000, maxWaitTimeInMs: 250 })
  const member = { consumer, owns: new Set(), seen: new Map() }
  consumer.on(consumer.events.GROUP_JOIN, ({ payload }) => { member.owns = new Set(payload.memberAssignment[topic] || []) })
  consumer.on(consumer.events.REBALANCING, () => { member.owns = new Set() })
  await consumer.connect()
  await consumer.subscribe({ topic, fromBeginning: true })
  await consumer.run({
    eachMessage: async ({ partition, message }) => { member.seen.set(`${partition}/${message.offset}`, { partition, message }) },
  })
  return member
}

// kafkajs has no consumer without a group: a fresh group reads everything.
async function read(want, count) {
  const member = await join(`${topic}-${randomBytes(4).toString('hex')}`)
  const found = () => [...member.seen.values()].filter(want).sort((a, b) => Number(a.message.offset) - Number(b.message.offset))
  try {
    await until(`${count} records`, () => found().length >= count)
    return found()
  } finally {
    await member.consumer.disconnect()
  }
}

async function codec(name) {
  const producer = kafka.producer({ idempotent: true, maxInFlightRequests: 1 })
  await producer.connect()
  const messages = Array.from({ length: 200 }, (_, i) => ({ key: `key-${i}`, value: `${name} value ${i} `.repeat(5), headers: { codec: name }, partition: 0 }))
  await producer.send({ topic, messages, acks: -1, compression: CODECS[name] })
  await producer.disconnect()
  const found = await read(({ message }) => message.headers.codec?.toString() === name, messages.length)
  messages.forEach(({ key, value }, i) => {
    const { message } = found[i]
    if (message.key.toString() !== key || message.value.toString() !== value) throw new Error(`record ${i} differs`)
  })
  return '200 records with keys and headers'
}

async function group() {
  const groupId = `${topic}-group`
  const total = Object.keys(CODECS).length * 200
  const first = await join(groupId)
  let second
  try {
    await until('the first member owns everything', () => first.owns.size === PARTITIONS)
    second = await join(groupId)
    await until('two members share', () => first.owns.size > 0 && second.owns.size > 0 && first.owns.size + second.owns.size === PARTITIONS)
    await second.consumer.disconnect()
    await until('the first member takes over', () => first.owns.size === PARTITIONS)
    await until('all records', () => new Set([...first.seen.keys(), ...second.seen.keys()]).size === total)
  } finally {
    await first.consumer.disconnect()
  }
  const [{ partitions }] = await admin.fetchOffsets({ groupId, topics: [topic] })
  const ends = await admin.fetchTopicOffsets(topic)
  for (const { partition, offset } of partitions) {
    // Offsets need not be dense: control records take some and are never shown.
    const own = [...first.seen.values(), ...second.seen.values()].filter((r) => r.partition === partition)
    const last = Math.max(-1, ...own.map(({ message }) => Number(message.offset)))
    const end = Number(ends.find((e) => e.partition === partition).high)
    if (own.length > 0 && (Number(offset) <= last || Number(offset) > end)) {
      throw new Error(`partition ${partition}: committed ${offset}, last record ${last}, end ${end}`)
    }
  }
  return `joined, left, ${total} records read and committed`
}

// Copies of delayed records, which are control records for queues, are passed over at the end of the log.
async function delayed() {
  const [later, count] = [process.env.DELAYED, 200]
  const producer = kafka.producer({ idempotent: true, maxInFlightRequests: 1 })
  await producer.connect()
  const send = (from, to, compression) => {
    const headers = (n) => (n % 2 ? { 'weir.deliver.after': String(1000 + 5 * n) } : {})
    const messages = Array.from({ length: to - from }, (_, i) => ({ value: String(from + i), headers: headers(from + i), partition: 0 }))
    return producer.send({ topic: later, messages, acks: -1, compression })
  }
  await send(0, count / 2, CompressionTypes.None)
  await send(count / 2, count, CompressionTypes.GZIP)
  execFileSync('sh', ['-c', process.env.RELEASED, 'released', later, String(count / 2)], { stdio: ['ignore', 'ignore', 'inherit'] })
  const end = Number((await admin.fetchTopicOffsets(later))[0].high)
  if (end <= count) throw new Error(`the log ends at ${end}: no copy is in it`)

  const reader = async (groupId, readUncommitted) => {
    const consumer = kafka.consumer({ groupId, readUncommitted, sessionTimeout: 6000, heartbeatInterval: 500, maxWaitTimeInMs: 250 })
    const found = []
    await consumer.connect()
    await consumer.subscribe({ topic: later, fromBeginning: true })
    await consumer.run({ eachMessage: async ({ message }) => { found.push(Number(message.value)) } })
    return { consumer, found }
  }
  const expect = async ({ found }, from, to) => {
    await until(`records ${from} to ${to}`, () => found.length >= to - from)
    const wrong = found.findIndex((number, i) => number !== from + i)
    if (wrong >= 0 || found.length !== to - from) throw new Error(`${found.length} records, of ${to - from}, the first wrong one is ${found[wrong]}`)
  }
  const readers = [await reader(`${later}-uncommitted`, true), await reader(`${later}-committed`, false)]
  try {
    for (const one of readers) await expect(one, 0, count)
    await readers[1].consumer.disconnect() // which commits, so that its group goes on behind what it read
    readers[1] = await reader(`${later}-committed`, false)
    await send(count, count + 1, CompressionTypes.None) // they are past the copies: it is the next that they see
    readers[0].found.splice(0, count)
    for (const one of readers) await expect(one, count, count + 1)
  } finally {
    for (const { consumer } of readers) await consumer.disconnect()
    await producer.disconnect()
  }
  return `${count} records read of a log that ends at ${end}, uncommitted and committed, one sent after, nothing again to a group that started anew`
}

async function leaderKill() {
  const [bursts, size, partition] = [300, 10, 1]
  const producer = kafka.producer({ idempotent: true, maxInFlightRequests: 1, retry: { initialRetryTime: 100, maxRetryTime: 500, retries: 200 } })
  await producer.connect()
  let [killed, last, gap] = [0, Date.now(), 0]
  for (let burst = 0; burst < bursts; burst++) {
    if (burst === bursts / 3) {
      killed = await leader(partition)
      execFileSync('sh', ['-c', process.env.KILL, 'kill', String(killed)], { stdio: 'ignore' })
    }
    const messages = Array.from({ length: size }, (_, i) => ({ value: String(burst * size + i), partition }))
    await producer.send({ topic, messages, acks: -1, timeout: 5000 })
    gap = Math.max(gap, Date.now() - last)
    last = Date.now()
    await sleep(10)
  }
  await producer.disconnect()
  const values = (await read((r) => r.partition === partition, bursts * size)).map(({ message }) => Number(message.value))
  const wrong = values.findIndex((value, i) => value !== i)
  if (wrong >= 0 || values.length !== bursts * size) {
    const distinct = new Set(values).size
    throw new Error(`${bursts * size - distinct} lost, ${values.length - distinct} duplicates, first difference at record ${wrong} in ${values.length}`)
  }
  return `node ${killed} killed, ${values.length} records once and in order, longest gap between acks ${gap} ms`
}

async function main() {
  await admin.connect()
  await check('create-topic', createTopic)
  for (const name of Object.keys(CODECS)) await check(`codec-${name}`, () => codec(name))
  await check('group-rebalance', group)
  if (process.env.DELAYED) await check('delayed', delayed)
  else console.log(`${NAME} delayed SKIP needs a cluster that "run" starts`)
  if (process.env.KILL) await check('leader-kill', leaderKill)
  else console.log(`${NAME} leader-kill SKIP no kill command`)
  process.exit(failed ? 1 : 0)
}

main().catch((error) => {
  console.log(`${NAME} run FAIL ${error.message}`)
  process.exit(1)
})
