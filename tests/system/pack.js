// A client that is not ours: packs through the proto file with @grpc/grpc-js, and prints what it got as JSON.
// Usage: node pack.js HOST:PORT PROTO_FOLDER
"use strict";

const grpc = require("@grpc/grpc-js");
const loader = require("@grpc/proto-loader");

const [target, protoFolder] = process.argv.slice(2);
const definition = loader.loadSync("trimtab/v1/placement.proto", {
  includeDirs: [protoFolder],
  enums: String,
  longs: Number,
});
const { PlacementService } = grpc.loadPackageDefinition(definition).trimtab.v1;
const client = new PlacementService(target, grpc.credentials.createInsecure());

const LAYERS = 2;
const ITEMS = 8;

function weight() {
  const data = Buffer.alloc(LAYERS * ITEMS * 4);
  for (let i = 0; i < LAYERS * ITEMS; i++) data.writeFloatLE(1 + ((i * 7) % 11), i * 4);
  return { dataType: "DATA_TYPE_FLOAT32", shape: [LAYERS, ITEMS], data };
}

function pack(numPacks) {
  const deadline = Date.now() + 20_000;
  return new Promise((resolve) => {
    client.Pack({ weight: weight(), numPacks }, { deadline }, (error, response) => resolve({ error, response }));
  });
}

function readInt16(tensor) {
  if (tensor.dataType !== "DATA_TYPE_INT16") throw new Error(`an answer in ${tensor.dataType}`);
  return Array.from({ length: tensor.data.length / 2 }, (_, i) => tensor.data.readInt16LE(i * 2));
}

async function main() {
  const good = await pack(4);
  if (good.error) throw good.error;
  const { packing, execution } = good.response;
  const bad = await pack(3);
  const details = bad.error?.metadata.get("grpc-status-details-bin")[0];
  console.log(
    JSON.stringify({
      shape: packing.packIndex.shape,
      packIndex: readInt16(packing.packIndex),
      rankInPack: readInt16(packing.rankInPack),
      maxLoad: packing.maxLoad,
      solver: execution.solver,
      error: bad.error && { code: grpc.status[bad.error.code], details: details?.toString("latin1") ?? "" },
    }),
  );
  client.close();
}

main().catch((error) => {
  console.error(error);
  process.exit(1);
});
