// A program on npm's etcd3: put, get, transactions, watches, leases, locks and elections against the hosts of the
// command line. Ends with 1 and the reason if anything is not as it has to be.
'use strict';

const assert = require('assert');
const path = require('path');
const { Etcd3 } = require(require.resolve('etcd3', { paths: [process.cwd()] }));

async function basics(client) {
  await client.put('app/name').value('kvd');
  assert.strictEqual(await client.get('app/name').string(), 'kvd');
  assert.strictEqual(await client.get('app/none').string(), null);
  assert.deepStrictEqual(await client.get('app/name').json().catch(() => 'no json'), 'no json');
  for (let i = 0; i < 20; i++) await client.put(`list/${String(i).padStart(2, '0')}`).value(i);
  assert.strictEqual(Object.keys(await client.getAll().prefix('list/').strings()).length, 20);
  assert.deepStrictEqual(await client.getAll().prefix('list/').sort('Key', 'Descend').limit(2).keys(), ['list/19', 'list/18']);
  assert.strictEqual(await client.getAll().prefix('list/').count(), 20);
  const removed = await client.delete().prefix('list/');
  assert.strictEqual(removed.deleted, '20');
  const previous = await client.put('app/name').value('again').getPrevious();
  assert.strictEqual(previous.value.toString(), 'kvd');
}

async function transactions(client) {
  const first = await client
    .if('app/new', 'Create', '==', 0)
    .then(client.put('app/new').value('1'))
    .else(client.get('app/new'))
    .commit();
  assert.strictEqual(first.succeeded, true);
  const second = await client
    .if('app/new', 'Value', '==', 'other')
    .then(client.put('app/new').value('2'))
    .else(client.get('app/new'), client.delete().key('app/name'))
    .commit();
  assert.strictEqual(second.succeeded, false);
  assert.strictEqual(second.responses[0].response_range.kvs[0].value.toString(), '1');
  assert.strictEqual(await client.get('app/name').string(), null);
  await client.stm().transact(async (tx) => {
    const value = await tx.get('app/new').number();
    await tx.put('app/new').value(value + 41);
  });
  assert.strictEqual(await client.get('app/new').number(), 42);
}

async function watches(client) {
  const seen = [];
  const watcher = await client.watch().prefix('watch/').withPreviousKV().create();
  const complete = new Promise((resolve) => {
    const add = (kind) => (kv, previous) => {
      seen.push([kind, kv.key.toString(), kv.value.toString(), previous ? previous.value.toString() : null]);
      if (seen.length === 3) resolve();
    };
    watcher.on('put', add('put'));
    watcher.on('delete', add('delete'));
  });
  await client.put('watch/a').value('1');
  await client.put('watch/a').value('2');
  await client.delete().key('watch/a');
  await complete;
  await watcher.cancel();
  assert.deepStrictEqual(seen, [
    ['put', 'watch/a', '1', null],
    ['put', 'watch/a', '2', '1'],
    ['delete', 'watch/a', '', '2'],
  ]);
}

async function leases(client) {
  const lease = client.lease(30);
  await lease.put('leased').value('v');
  assert.strictEqual(await client.get('leased').string(), 'v');
  await lease.keepaliveOnce();
  await lease.revoke();
  assert.strictEqual(await client.get('leased').string(), null);
  const lock = await client.lock('door').ttl(20).acquire();
  await assert.rejects(client.lock('door').ttl(20).acquire());
  await lock.release();
  const election = client.election('chair', 20);
  const campaign = election.campaign('me');
  await new Promise((resolve, reject) => campaign.on('elected', resolve).on('error', reject));
  assert.strictEqual(await election.leader(), 'me');
  await campaign.resign();
}

async function main() {
  for (const host of process.argv.slice(2)) {
    const client = new Etcd3({ hosts: `http://${host}` });
    await client.delete().all();
    for (const step of [basics, transactions, watches, leases]) await step(client);
    client.close();
    console.log(`${path.basename(__filename)}: ${host}`);
  }
}

const timer = setTimeout(() => {
  console.error('not done within 120 s');
  process.exit(1);
}, 120000);
main().then(
  () => clearTimeout(timer),
  (error) => {
    console.error(error);
    process.exit(1);
  });
