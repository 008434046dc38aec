// node javascript.cjs <folder of node_modules> <url> <connections>
// Takes an order per line of standard input, answers each with a line: {"wall": s, "cpu": s}.
"use strict";

const { createRequire } = require("node:module");
const { Agent } = require("node:http");
const readline = require("node:readline");

const [folder, endpoint, connections] = process.argv.slice(2);
const sdk = createRequire(`${folder}/node_modules/`)("@aws-sdk/client-sagemaker-runtime");

const client = new sdk.SageMakerRuntimeClient({
  endpoint,
  requestHandler: { httpAgent: new Agent({ keepAlive: true, maxSockets: Number(connections) }) },
});

async function perform({ operation, endpoint: name }, body) {
  const input = { EndpointName: name, Body: body, ContentType: "application/json" };
  if (operation === "invoke") {
    return (await client.send(new sdk.InvokeEndpointCommand(input))).Body;
  }
  const command = new sdk.InvokeEndpointWithResponseStreamCommand(input);
  let received = 0;
  for await (const event of (await client.send(command)).Body) {
    received += event.PayloadPart.Bytes.length;
  }
  return received;
}

async function repeat(order) {
  const body = Buffer.alloc(order.size, "x");
  let left = order.calls;
  const takeTurns = async () => {
    while (left-- > 0) await perform(order, body);
  };
  const wall = process.hrtime.bigint();
  const cpu = process.cpuUsage();
  await Promise.all(Array.from({ length: Math.min(order.inFlight, order.calls) }, takeTurns));
  const used = process.cpuUsage(cpu);
  return {
    wall: Number(process.hrtime.bigint() - wall) / 1e9,
    cpu: (used.user + used.system) / 1e6,
  };
}

(async () => {
  for await (const line of readline.createInterface({ input: process.stdin })) {
    console.log(JSON.stringify(await repeat(JSON.parse(line))));
  }
  client.destroy();
})();
