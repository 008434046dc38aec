// Give, for each query of a JSON list on standard input, the page that the built site finds first.
// What runs is what runs in a browser: Sphinx's search, its language and scorer, the site's index.
"use strict";
const fs = require("node:fs");
const path = require("node:path");
const vm = require("node:vm");

const page = {
  _ready() {},
  _: (text) => text,
  document: { getElementById: () => null, querySelectorAll: () => [] },
  SPHINX_HIGHLIGHT_ENABLED: false,
  queries: JSON.parse(fs.readFileSync(0, "utf8")),
};
page.window = vm.createContext(page);
for (const name of ["_static/searchtools.js", "_static/language_data.js", "searchindex.js"]) {
  vm.runInContext(fs.readFileSync(path.join(process.argv[2], name), "utf8"), page);
}
const first = "(query) => Search._performSearch(...Search._parseQuery(query)).at(-1)?.[0] ?? null";
console.log(JSON.stringify(page.queries.map(vm.runInContext(first, page))));
