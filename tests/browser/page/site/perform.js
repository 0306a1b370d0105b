import * as star from "./star_page.js";

const AsyncFunction = (async () => {}).constructor;
const loaded = star.default({ module_or_path: "star_page_bg.wasm" });
globalThis.star = star;

/// Runs the body of an async function, which has these `args`.
export async function perform(body, args) {
    try {
        await loaded;
        return { value: (await new AsyncFunction("args", body)(args)) ?? null };
    } catch (error) {
        return { error: String(error?.message ?? error) };
    }
}
