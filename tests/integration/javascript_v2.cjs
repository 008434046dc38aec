// The documented usage of the AWS SDK for JavaScript v2: all three operations, and S3 around them.
process.env.AWS_SDK_JS_SUPPRESS_MAINTENANCE_MODE_MESSAGE = "1";
const AWS = require("aws-sdk");
const assert = require("node:assert");
const endpoint = process.env.ENDPOINT;
const options = { endpoint, region: "us-east-1", accessKeyId: "local", secretAccessKey: "local-secret", maxRetries: 0 };
const runtime = new AWS.SageMakerRuntime(options);
const s3 = new AWS.S3({ ...options, s3ForcePathStyle: true });

async function main() {
  const whole = await runtime.invokeEndpoint({ EndpointName: "e", Body: "hello", ContentType: "text/plain", CustomAttributes: "a=b" }).promise();
  assert.equal(JSON.parse(whole.Body.toString()).echo, "hello");
  assert.equal(whole.CustomAttributes, "a=b");

  if (runtime.invokeEndpointWithResponseStream) {
    const streamed = await runtime.invokeEndpointWithResponseStream({ EndpointName: "e", Body: "hello world" }).promise();
    const events = [];
    if (typeof streamed.Body.on === "function") {
      await new Promise((resolve, reject) => {
        streamed.Body.on("data", (event) => events.push(event));
        streamed.Body.on("end", resolve);
        streamed.Body.on("error", reject);
      });
    } else {
      for await (const event of streamed.Body) events.push(event);
    }
    assert.ok(events.length > 0);
    assert.ok(Buffer.concat(events.map((event) => event.PayloadPart.Bytes)).toString().includes("hello"));
  }

  await s3.upload({ Bucket: "inputs", Key: "a b/1.json", Body: Buffer.from('{"x": 1}') }).promise();
  const queued = await runtime.invokeEndpointAsync({ EndpointName: "e", InputLocation: "s3://inputs/a b/1.json" }).promise();
  assert.ok(queued.InferenceId);
  const [, , bucket, ...rest] = queued.OutputLocation.split("/");
  const there = { Bucket: bucket, Key: rest.join("/") };
  await s3.waitFor("objectExists", { ...there, $waiter: { delay: 0.1, maxAttempts: 50 } }).promise();
  const output = await s3.getObject(there).promise();
  assert.ok(output.Body.toString().includes("x"));

  const large = Buffer.alloc(20_000_000, "x");
  await s3.upload({ Bucket: "inputs", Key: "large", Body: large }).promise();
  assert.equal((await s3.headObject({ Bucket: "inputs", Key: "large" }).promise()).ContentLength, large.length);
  const listed = await s3.listObjects({ Bucket: "inputs", Delimiter: "/" }).promise();
  assert.deepEqual(listed.CommonPrefixes, [{ Prefix: "a b/" }]);
  assert.deepEqual((await s3.listObjectsV2({ Bucket: "inputs" }).promise()).Contents.map((item) => item.Key), ["a b/1.json", "large"]);
  assert.ok((await s3.listBuckets().promise()).Buckets.some((each) => each.Name === "inputs"));
  for (const signatureVersion of ["v2", "v4"]) {
    const signer = new AWS.S3({ ...options, s3ForcePathStyle: true, signatureVersion });
    const put = signer.getSignedUrl("putObject", { Bucket: "inputs", Key: "signed + 1" });
    assert.equal((await fetch(put, { method: "PUT", body: Buffer.from("signed") })).status, 200);
    const get = signer.getSignedUrl("getObject", { Bucket: "inputs", Key: "signed + 1" });
    assert.equal(await (await fetch(get)).text(), "signed");
  }
  await s3.copyObject({ Bucket: "inputs", Key: "copy", CopySource: "inputs/large" }).promise();
  await s3.deleteObjects({ Bucket: "inputs", Delete: { Objects: [{ Key: "copy" }, { Key: "large" }] } }).promise();
  await s3.deleteObject({ Bucket: "inputs", Key: "a b/1.json" }).promise();
  await assert.rejects(s3.getObject({ Bucket: "inputs", Key: "large" }).promise(), { code: "NoSuchKey" });
  await assert.rejects(runtime.invokeEndpoint({ EndpointName: "a..b", Body: "x" }).promise());
  console.log("good");
}
main().catch((error) => { console.error(error); process.exit(1); });
