// Holds the document in the file that is named to the meta-schema of OpenAPI 3.1,
// which also looks into its schemas.
import { readFile } from "node:fs/promises";
import { validate } from "@hyperjump/json-schema/openapi-3-1";

const document = JSON.parse(await readFile(process.argv[2], "utf8"));
const result = await validate("https://spec.openapis.org/oas/3.1/schema-base", document, "BASIC");
if (!result.valid) {
  for (const e of result.errors ?? []) {
    console.error(`${e.instanceLocation}: ${e.keyword}`);
  }
  throw new Error("the document is not OpenAPI 3.1");
}
console.log(`document: OpenAPI ${document.openapi}, ${Object.keys(document.paths).length} paths`);
