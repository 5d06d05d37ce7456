// Who may import whom. Each rule is a sentence of ARCHITECTURE.md; `npm run check` fails on the first import that breaks one.
const SERVICES = "kontrol|klient|kloud|gateway";
// Test files, contract suites, and what only they import.
const TESTS = "([.](test|contract)|/test-[^/]+)[.]ts$";

// Node's own modules that only compute; crypto is for hashes. Everything else reaches files, the network, processes or the clock.
const PURE_NODE_MODULES = "^(node:)?(buffer|crypto|util|path|url|querystring|string_decoder|assert)(/|$)";
const PURE_IN_KITE = ["^kite/src/wire/", "^kite/src/(identity|labels|query|version)[.]ts$"];

// Parts of kite that are subpaths of their own, each with the optional peer that it is for.
const KITE_PEERS = {
  "^kite/src/breaker/": "cockatiel",
  "^kite/src/nats/": "nats",
  "^kite/src/opentelemetry/": "@opentelemetry/api",
  "^kite/src/pino/": "pino",
  "^kite/src/prometheus/": "prom-client",
};

/** @type {import("dependency-cruiser").IConfiguration} */
export default {
  forbidden: [
    {
      name: "kite-knows-nobody",
      comment: "The library is below everything: it must be usable, testable and publishable without the mesh.",
      severity: "error",
      from: { path: "^kite/src/" },
      to: { path: `^(${SERVICES}|deploy|test|kite/cli|kite/examples)/`, pathNot: "^test/(original|postgres|services)[.]ts$" },
    },
    {
      name: "kite-depends-on-ws-and-jose-only",
      comment: "Two dependencies are what a newcomer accepts; anything else is an optional peer of the one folder that needs it.",
      severity: "error",
      from: { path: "^kite/src/", pathNot: [TESTS, ...Object.keys(KITE_PEERS)] },
      to: { path: "node_modules/", pathNot: "node_modules/(@types/)?(ws|jose|node)/" },
    },
    ...Object.entries(KITE_PEERS).flatMap(([folder, peer]) => [
      {
        name: "kite-peers-stay-in-their-folders",
        comment: "A folder that needs an optional peer needs that one alone.",
        severity: "error",
        from: { path: folder, pathNot: TESTS },
        to: { path: "node_modules/", pathNot: `node_modules/((@types/)?(ws|jose|node)|${peer})/` },
      },
      {
        name: "kite-does-without-its-peers",
        comment: "Who imports @kite-mesh/kite need not have installed the optional peers.",
        severity: "error",
        from: { path: "^kite/src/", pathNot: [TESTS, folder] },
        to: { path: folder },
      },
    ]),
    {
      name: "services-meet-at-contracts",
      comment: "Services talk over RPC. Of each other they know the contract, never the code.",
      severity: "error",
      from: { path: `^(${SERVICES})/(?!providers/)` },
      to: { path: `^(${SERVICES})/`, pathNot: ["^$1/(?!providers/)", `^(${SERVICES})/src/contract[.]ts$`] },
    },
    {
      name: "contracts-are-types",
      comment: "A contract imported as a value would bundle one service into another: write `import type`.",
      severity: "error",
      from: { path: `^(${SERVICES}|kite/cli)/` },
      to: { path: `^(${SERVICES})/src/contract[.]ts$`, pathNot: "^$1/", dependencyTypesNot: ["type-only"] },
    },
    {
      name: "the-command-is-a-client",
      comment: "The kite command knows the services as any caller does: by contract.",
      severity: "error",
      from: { path: "^kite/cli/" },
      to: { path: `^(${SERVICES}|deploy)/`, pathNot: `^(${SERVICES})/src/contract[.]ts$` },
    },
    {
      name: "examples-are-kites-of-strangers",
      comment: "What an example imports is what its reader will need.",
      severity: "error",
      from: { path: "^kite/examples/" },
      to: { path: `^(${SERVICES}|deploy|test|kite/cli)/` },
    },
    {
      name: "providers-see-the-provider-port",
      comment: "A provider is written against @kite-mesh/kloud/provider (and /testing in tests), by people who do not know kloud.",
      severity: "error",
      from: { path: "^kloud/providers/([^/]+)/", pathNot: TESTS },
      to: { path: `^(${SERVICES}|deploy|kite/cli)/`, pathNot: ["^kloud/providers/$1/", "^kloud/src/provider[.]ts$"] },
    },
    {
      name: "providers-tests-see-the-testing-port",
      severity: "error",
      from: { path: `^kloud/providers/([^/]+)/.*(?:${TESTS})` },
      to: { path: `^(${SERVICES}|deploy|kite/cli)/`, pathNot: ["^kloud/providers/$1/", "^kloud/src/(provider|testing)[.]ts$"] },
    },
    {
      name: "nobody-imports-deploy",
      comment: "deploy composes the services; only what launches databases for tests and benchmarks borrows its PostgreSQL.",
      severity: "error",
      from: { pathNot: ["^deploy/", "^test/(setup/cluster|postgres-server)[.]ts$", "^test/bench/"] },
      to: { path: "^deploy/" },
    },
    {
      name: "nobody-imports-test",
      comment: "Of test/, other packages' tests may use the databases, the programs built and the services found; their sources nothing.",
      severity: "error",
      from: { pathNot: ["^test/", TESTS, "^[^/]+[.]config[.]ts$"] },
      to: { path: "^test/" },
    },
    {
      name: "tests-borrow-databases-and-services-only",
      severity: "error",
      from: { path: TESTS, pathNot: "^test/" },
      to: { path: "^test/", pathNot: "^test/(balancer|lasting-port|original|postgres|programs|services)[.]ts$" },
    },
    {
      name: "sources-do-not-import-tests",
      comment: "Test kits and test files stay out of what is shipped.",
      severity: "error",
      from: { pathNot: [TESTS, "[.]testing[.]ts$", "/testing([.]ts|/)", "^test/", "^[^/]+[.]config[.]ts$"] },
      to: { path: [TESTS, "/src/testing([.]ts|/)"] },
    },
    {
      name: "no-barrels-inside",
      comment: "Importing siblings through index.ts is how cycles begin: import the file.",
      severity: "error",
      from: { path: "^(kite|kite/cli|kontrol|klient|kloud|kloud/providers/[^/]+|gateway|deploy/local)/(src|web)/" },
      to: { path: "^$1/src/index[.]ts$" },
    },
    {
      name: "no-cycles",
      comment: "A file imports files of lower floors only; types count.",
      severity: "error",
      from: {},
      to: { circular: true },
    },
    {
      name: "pure-modules-do-no-io",
      comment: "They take values and return values, so that tests and fuzzers can run them by the million.",
      severity: "error",
      from: { path: [...PURE_IN_KITE, "^kloud/src/template[.]ts$", "^gateway/src/events[.]ts$"], pathNot: TESTS },
      to: { dependencyTypes: ["core"], dependencyTypesNot: ["type-only"], pathNot: PURE_NODE_MODULES },
    },
    {
      name: "pure-modules-rest-on-pure-modules",
      comment:
        "What a pure module imports must not do I/O on its behalf. (Services' pure modules share KiteError with a library that does I/O.)",
      severity: "error",
      from: { path: PURE_IN_KITE, pathNot: TESTS },
      to: {
        path: "^(node:)?(fs|fs/promises|net|tls|http|https|http2|dgram|dns|child_process|worker_threads|cluster|os|timers)(/|$)",
        reachable: true,
      },
    },
    {
      name: "imports-resolve",
      comment: "An import that cannot be followed escapes every rule above.",
      severity: "error",
      from: {},
      to: { couldNotResolve: true },
    },
  ],
  options: {
    doNotFollow: { path: "node_modules" },
    exclude: { path: ["/dist/", "^kite/cli/templates/"] },
    tsPreCompilationDeps: true,
    tsConfig: { fileName: "tsconfig.json" },
    enhancedResolveOptions: {
      exportsFields: ["exports"],
      conditionNames: ["mesh-source", "types", "import", "node", "default"],
      extensions: [".ts", ".tsx", ".js", ".mjs", ".cjs", ".d.ts"],
      mainFields: ["main", "types"],
    },
  },
};
