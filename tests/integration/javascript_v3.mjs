// The documented usage of the AWS SDK for JavaScript v3: all three operations, and S3 around them.
import assert from "node:assert";
import { Readable } from "node:stream";
import { InvokeEndpointAsyncCommand, InvokeEndpointCommand, InvokeEndpointWithResponseStreamCommand, SageMakerRuntimeClient } from "@aws-sdk/client-sagemaker-runtime";
import { CopyObjectCommand, DeleteObjectCommand, DeleteObjectsCommand, GetBucketLocationCommand, GetObjectCommand, HeadObjectCommand, ListBucketsCommand, ListObjectsCommand, ListObjectsV2Command, PutObjectCommand, S3Client, waitUntilObjectExists } from "@aws-sdk/client-s3";
import { Upload } from "@aws-sdk/lib-storage";
import { getSignedUrl } from "@aws-sdk/s3-request-presigner";

const options = { endpoint: process.env.ENDPOINT, region: "us-east-1", maxAttempts: 1, credentials: { accessKeyId: "local", secretAccessKey: "local-secret" } };
const runtime = new SageMakerRuntimeClient(options);
const s3 = new S3Client({ ...options, forcePathStyle: true });
const Bucket = "inputs";

const whole = await runtime.send(new InvokeEndpointCommand({ EndpointName: "e", Body: "hello", ContentType: "text/plain" }));
assert.equal(JSON.parse(Buffer.from(whole.Body).toString()).echo, "hello");

const streamed = await runtime.send(new InvokeEndpointWithResponseStreamCommand({ EndpointName: "e", Body: "hello world" }));
const parts = [];
for await (const event of streamed.Body) parts.push(event.PayloadPart.Bytes);
assert.ok(Buffer.concat(parts).toString().includes("hello"));

await s3.send(new PutObjectCommand({ Bucket, Key: "a b/1.json", Body: '{"x": 1}' }));
await s3.send(new PutObjectCommand({ Bucket, Key: "stream", Body: Readable.from([Buffer.from("1,2")]), ContentLength: 3 }));
for (const request of [{ InputLocation: "s3://inputs/a b/1.json" }, { Body: "hello x" }]) {
  const queued = await runtime.send(new InvokeEndpointAsyncCommand({ EndpointName: "e", ...request }));
  const [, , bucket, ...rest] = queued.OutputLocation.split("/");
  const there = { Bucket: bucket, Key: rest.join("/") };
  await waitUntilObjectExists({ client: s3, maxWaitTime: 10, minDelay: 1, maxDelay: 1 }, there);
  const output = await s3.send(new GetObjectCommand(there));
  assert.ok((await output.Body.transformToString()).includes("x"));
}

const large = Buffer.alloc(20_000_000, "x");
await new Upload({ client: s3, params: { Bucket, Key: "large", Body: Readable.from([large.subarray(0, 9_000_000), large.subarray(9_000_000)]) } }).done();
assert.equal((await s3.send(new HeadObjectCommand({ Bucket, Key: "large" }))).ContentLength, large.length);
assert.deepEqual((await s3.send(new ListObjectsCommand({ Bucket, Delimiter: "/" }))).CommonPrefixes, [{ Prefix: "a b/" }]);
assert.deepEqual((await s3.send(new ListObjectsV2Command({ Bucket }))).Contents.map((item) => item.Key), ["a b/1.json", "large", "stream"]);
assert.ok((await s3.send(new ListBucketsCommand({}))).Buckets.some((each) => each.Name === Bucket));
await s3.send(new GetBucketLocationCommand({ Bucket }));
const put = await getSignedUrl(s3, new PutObjectCommand({ Bucket, Key: "signed + 1" }), { expiresIn: 60 });
assert.equal((await fetch(put, { method: "PUT", body: Buffer.from("signed") })).status, 200);
const get = await getSignedUrl(s3, new GetObjectCommand({ Bucket, Key: "signed + 1" }), { expiresIn: 60 });
assert.equal(await (await fetch(get)).text(), "signed");
await s3.send(new CopyObjectCommand({ Bucket, Key: "copy", CopySource: "inputs/large" }));
await s3.send(new DeleteObjectsCommand({ Bucket, Delete: { Objects: [{ Key: "copy" }, { Key: "large" }] } }));
await s3.send(new DeleteObjectCommand({ Bucket, Key: "stream" }));
await assert.rejects(s3.send(new GetObjectCommand({ Bucket, Key: "large" })), { name: "NoSuchKey" });
await assert.rejects(runtime.send(new InvokeEndpointCommand({ EndpointName: "..", Body: "x" })));
console.log("good");
