// What the AWS SDK for JavaScript v3 makes of each fault in faults.json; the endpoint's name says which.
import assert from "node:assert";
import { InvokeEndpointCommand, InvokeEndpointWithResponseStreamCommand, SageMakerRuntimeClient } from "@aws-sdk/client-sagemaker-runtime";

const options = { endpoint: process.env.ENDPOINT, region: "us-east-1", credentials: { accessKeyId: "local", secretAccessKey: "local-secret" } };
const once = new SageMakerRuntimeClient({ ...options, maxAttempts: 1, requestHandler: { requestTimeout: 500, throwOnRequestTimeout: true } });
const thrice = new SageMakerRuntimeClient({ ...options, maxAttempts: 3 });

const invoke = (EndpointName, client = once) => client.send(new InvokeEndpointCommand({ EndpointName, Body: "x" }));
const stream = async (EndpointName) => {
  const parts = [];
  try {
    const answer = await once.send(new InvokeEndpointWithResponseStreamCommand({ EndpointName, Body: "x" }));
    for await (const event of answer.Body) parts.push(event.PayloadPart.Bytes);
  } catch (error) {
    return [Buffer.concat(parts).toString(), error];
  }
  return [Buffer.concat(parts).toString(), null];
};

for (const [name, code, status] of [["throttled", "ThrottlingException", 400], ["loading", "ModelNotReadyException", 429], ["full", "ModelError", 424], ["expired", "ExpiredTokenException", 403], ["empty", "ValidationError", 400]]) {
  const error = await invoke(name).then(() => assert.fail(name), (error) => error);
  assert.equal(error.name, code);
  assert.equal(error.$metadata.httpStatusCode, status);
  if (name === "full") assert.equal(error.OriginalStatusCode, 507);
}
const answer = await invoke("again", thrice);
assert.equal(Buffer.from(answer.Body).toString(), "at last");
assert.equal(answer.$metadata.attempts, 3);
const page = await invoke("page").then(() => assert.fail("page"), (error) => error);
assert.equal(page.$metadata?.httpStatusCode ?? page.$response.statusCode, 502);
for (const name of ["reset", "hangs", "short"]) await assert.rejects(invoke(name), undefined, name);

assert.deepEqual(await stream("whole"), ["one two", null]);
assert.deepEqual(await stream("split"), ["zwölf", null]);
for (const [name, text] of [["cut", "one two "], ["chunk", "one two "], ["frame", "one two "], ["prelude", "one "], ["payload", "one "], ["lost", "one two "]]) {
  const [came, error] = await stream(name);
  assert.equal(came, text, name);
  assert.ok(error instanceof Error, name);
}
for (const [name, code] of [["slow", "ModelStreamError"], ["broken", "InternalStreamFailure"]]) {
  const [came, error] = await stream(name);
  assert.equal(came, "one ");
  assert.equal(error.name, code);
  if (name === "slow") assert.equal(error.ErrorCode, "ModelInvocationTimeExceeded");
}
console.log("good");
