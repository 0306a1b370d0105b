import { perform } from "./perform.js";

onmessage = async ({ data }) => {
    postMessage({ id: data.id, result: await perform(data.body, data.args) });
};
