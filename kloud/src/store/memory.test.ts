import { memoryStore } from "./memory.ts";
import { testStore } from "./store.contract.ts";

testStore("in-memory", async () => memoryStore());
