// Apache RocketMQ's own Node client: node check.js HOST:PORT,... Result lines and environment as in ../README.md.
'use strict'
const assert = require('node:assert/strict')
const { spawn, spawnSync } = require('node:child_process')
const { once } = require('node:events')
const { setTimeout: after } = require('node:timers/promises')
const { ConsumeResult, Producer, PushConsumer, SimpleConsumer } = require('rocketmq-client-nodejs')
const { TransactionResolution } = require('rocketmq-client-nodejs/proto/apache/rocketmq/v2/definition_pb')

const NAME = process.env.CLIENT || 'rocketmq-node'
const TOPIC = `${NAME}-mixed`
const FIFO = `${NAME}-fifo`
const logger = { info() {}, debug() {}, warn() {}, error: (...words) => console.error(...words) }
const common = {
  endpoints: process.argv.at(-1).replaceAll(',', ';'), namespace: '', sslEnabled: process.env.TLS === '1', requestTimeout: 5000, logger,
}
let failed = false
// Clients are shut down beside the checks that follow: a push consumer waits for its receives, which wait 20 s for messages.
const closing = []

async function check(name, action) {
  const started = [] // what the check started, to be stopped whatever becomes of it
  const start = async (client) => {
    await client.startup()
    started.unshift(client)
    return client
  }
  try {
    console.log(`${NAME} ${name} PASS ${await action(start)}`)
  } catch (error) {
    failed = true
    console.error(error)
    console.log(`${NAME} ${name} FAIL ${String(error.message).replaceAll('\n', ' ').slice(0, 300)}`)
  }
  for (const client of started) closing.push(client.shutdown().catch((error) => console.error(error)))
}

const producer = (topic, checker) => new Producer({ ...common, topics: [topic], checker })
const simple = (consumerGroup, expression) =>
  new SimpleConsumer({ ...common, consumerGroup, subscriptions: new Map([[TOPIC, expression]]), awaitDuration: 2000 })
const message = (topic, body, more) => ({ topic, body: Buffer.from(body), ...more })
const body = (view) => view.body.toString()

/** `count` messages, each settled; fewer or more are an error. */
async function receive(consumer, count, seconds = 20) {
  const got = []
  for (const end = Date.now() + seconds * 1000; got.length < count && Date.now() < end; ) {
    for (const view of await consumer.receive(32, 15000)) {
      await consumer.ack(view)
      got.push(view)
    }
  }
  assert.equal(got.length, count, `${got.length} of ${count} messages`)
  return got
}

/** Polls each of the topic's queues once more: the client takes them in turn. */
async function nothing(consumer, what) {
  for (let n = 0; n < 3; n++) assert.deepEqual((await consumer.receive(32, 15000)).map(body), [], what)
}

class Listener {
  got = []

  constructor(succeeds) {
    this.succeeds = succeeds
  }

  consume(view) {
    this.got.push({ view, attempt: view.deliveryAttempt })
    if (this.got.length === this.awaited) this.enough()
    return this.succeeds(view) ? ConsumeResult.SUCCESS : ConsumeResult.FAILURE
  }

  async wait(count, seconds = 30) {
    let timer
    const late = new Promise((_, fail) => {
      timer = setTimeout(() => fail(new Error(`${this.got.length} of ${count} deliveries`)), seconds * 1000)
    })
    const enough = new Promise((done) => {
      this.awaited = count
      this.enough = done
      if (this.got.length >= count) done()
    })
    await Promise.race([enough, late]).finally(() => clearTimeout(timer))
  }
}

const push = (consumerGroup, topic, expression, messageListener) =>
  new PushConsumer({ ...common, consumerGroup, subscriptions: new Map([[topic, expression]]), messageListener, longPollingTimeout: 2000 })

async function sendAndReceive(start) {
  const consumer = await start(simple('node-simple', '*'))
  const sender = await start(producer(TOPIC))
  const made = (n) => message(TOPIC, `body-${n}`, { tag: 'a', keys: [`key-${n}`, 'all'], properties: new Map([['number', `${n}`]]) })
  const receipts = []
  for (let n = 0; n < 20; n++) receipts.push(await sender.send(made(n)))
  const together = Array.from({ length: 20 }, (_, n) => sender.send(made(20 + n)))
  receipts.push(...(await Promise.all(together)))
  const ids = new Set(receipts.map((receipt) => receipt.messageId))
  assert.equal(ids.size, 40)
  for (const view of await receive(consumer, 40)) {
    const number = body(view).slice('body-'.length)
    assert(ids.delete(view.messageId), `${view.messageId} was not sent`)
    assert(!view.corrupted, 'the checksum is not what this client computes')
    assert.deepEqual([view.keys, view.tag, view.properties.get('number')], [[`key-${number}`, 'all'], 'a', number])
    assert.equal(view.deliveryAttempt, 1)
  }
  await nothing(consumer, 'settled messages came again')
  return '40 messages sent, received and settled'
}

async function tagFilter(start) {
  const consumer = await start(simple('node-filter', 'red || blue'))
  const sender = await start(producer(TOPIC))
  for (const tag of ['red', 'green', 'blue', 'green', 'red']) await sender.send(message(TOPIC, tag, { tag }))
  assert.deepEqual((await receive(consumer, 3)).map(body).sort(), ['blue', 'red', 'red'])
  return ''
}

async function pushRetry(start) {
  const listener = new Listener((view) => body(view) !== 'fails once' || view.deliveryAttempt > 1)
  await start(push('node-push', TOPIC, 'push', listener))
  const sender = await start(producer(TOPIC))
  const bad = await sender.send(message(TOPIC, 'fails once', { tag: 'push' }))
  for (let n = 0; n < 10; n++) await sender.send(message(TOPIC, `${n}`, { tag: 'push' }))
  await listener.wait(12)
  const attempts = listener.got.filter(({ view }) => view.messageId === bad.messageId).map(({ attempt }) => attempt)
  assert.deepEqual(attempts, [1, 2])
  return '11 messages, one of them twice'
}

async function fifo(start) {
  const listener = new Listener(() => true)
  await start(push('node-fifo', FIFO, '*', listener))
  const sender = await start(producer(FIFO))
  for (let n = 0; n < 10; n++) {
    for (const messageGroup of ['x', 'y', 'z']) await sender.send(message(FIFO, `${n}`, { messageGroup }))
  }
  await listener.wait(30)
  for (const group of ['x', 'y', 'z']) {
    const order = listener.got.filter(({ view }) => view.messageGroup === group).map(({ view }) => body(view))
    assert.equal(order.join(''), '0123456789', `group ${group}`)
  }
  return '3 groups of 10 in order'
}

async function delay(start) {
  const consumer = await start(simple('node-delay', 'later'))
  const sender = await start(producer(TOPIC))
  const due = Date.now() + 3000
  await sender.send(message(TOPIC, 'due', { tag: 'later', deliveryTimestamp: new Date(due) }))
  const recalled = await sender.send(message(TOPIC, 'recalled', { tag: 'later', deliveryTimestamp: new Date(due + 1000) }))
  assert.equal((await sender.recallMessage(TOPIC, recalled.recallHandle)).messageId, recalled.messageId)
  let asked
  let got = []
  for (const end = due + 20000; got.length === 0 && Date.now() < end; ) {
    asked = Date.now()
    got = await consumer.receive(32, 15000)
  }
  // What the broker answers for: the client polls the queues in turn, and asks the right one last if it so happens.
  const early = due - Date.now()
  const late = Date.now() - Math.max(due, asked)
  assert(got.map(body).join() === 'due' && early <= 0 && late < 1000, `${got.map(body)}: ${late} ms after its time, ${early} early`)
  await consumer.ack(got[0])
  await nothing(consumer, 'the recalled message came')
  return `${late} ms after it was due and its queue asked`
}

/** What the producer does that is killed: it says nothing of the last transaction, and no goodbye. */
async function half() {
  const first = producer(TOPIC, { check: async () => TransactionResolution.TRANSACTION_RESOLUTION_UNSPECIFIED })
  await first.startup()
  for (const text of ['committed', 'rolled back', 'forgotten']) {
    const open = first.beginTransaction()
    await first.send(message(TOPIC, text, { tag: 'half' }), open)
    if (text === 'committed') await open.commit()
    if (text === 'rolled back') await open.rollback()
  }
  console.log('sent')
}

/** Runs a part of this program until it says that it has sent, and ends it with SIGKILL. */
async function killed(part) {
  const child = spawn(process.execPath, [__filename, part, process.argv.at(-1)], { stdio: ['ignore', 'pipe', 'inherit'] })
  const ended = once(child, 'exit')
  const said = new Promise((done) => child.stdout.on('data', (text) => String(text).includes('sent') && done('sent')))
  const first = await Promise.race([said, ended, after(60000, 'nothing', { ref: false })])
  child.kill('SIGKILL')
  await ended
  assert.equal(first, 'sent', 'the producer to be killed did not send')
}

async function transaction(start) {
  const consumer = await start(simple('node-half', 'half'))
  await killed('half')
  const asked = []
  const checker = {
    async check(view) {
      asked.push(body(view))
      return TransactionResolution.COMMIT
    },
  }
  await start(producer(TOPIC, checker))
  assert.deepEqual((await receive(consumer, 2, 45)).map(body).sort(), ['committed', 'forgotten'])
  assert.deepEqual(asked, ['forgotten'])
  return 'commit, rollback, and a check-back of a killed producer answered by another'
}

/** Without the authority this client must not come up: `send-receive` shows that with it it does. */
async function untrusted() {
  const env = { ...process.env }
  delete env.GRPC_DEFAULT_SSL_ROOTS_FILE_PATH
  const child = spawnSync(process.execPath, [__filename, 'start', process.argv.at(-1)], { env, timeout: 60000 })
  assert.equal(child.status, 3, String(child.stderr).slice(-300))
  return 'a certificate of an unknown authority is refused'
}

const ALL = { 'send-receive': sendAndReceive, 'tag-filter': tagFilter, 'push-retry': pushRetry, fifo, 'delay-recall': delay, transaction }
const ENCRYPTED = { ...ALL, untrusted }

async function main() {
  if (process.argv.includes('start')) {
    await producer(TOPIC).startup().catch(() => process.exit(3))
    process.exit(0)
  }
  if (process.argv.includes('half')) {
    await half() // and lives on, until it is killed
    return
  }
  for (const [name, action] of Object.entries(process.env.TLS === '1' ? ENCRYPTED : ALL)) await check(name, action)
  await Promise.all(closing)
  process.exit(failed ? 1 : 0) // the client's timers do not all end by themselves
}

main()
