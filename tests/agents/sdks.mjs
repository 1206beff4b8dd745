// Streams of the JavaScript SDKs: node sdks.mjs URL. A line of JSON for each: its name, the text that came, and what it raised or reported.
import Anthropic from "@anthropic-ai/sdk";
import { createAnthropic } from "@ai-sdk/anthropic";
import { createGoogleGenerativeAI } from "@ai-sdk/google";
import { createOpenAI } from "@ai-sdk/openai";
import { GoogleGenAI } from "@google/genai";
import { streamText } from "ai";
import OpenAI from "openai";

const url = process.argv[2];
const openai = new OpenAI({ baseURL: url + "/v1", apiKey: "x", maxRetries: 0 });
const anthropic = new Anthropic({ baseURL: url, apiKey: "x", maxRetries: 0 });
const google = new GoogleGenAI({ apiKey: "x", httpOptions: { baseUrl: url } });
const messages = [{ role: "user", content: "hi" }];
globalThis.AI_SDK_LOG_WARNINGS = false;

async function vercel(model, heard) {
  const onError = ({ error }) => (heard.error = String(error.message ?? JSON.stringify(error)));
  for await (const text of streamText({ model, messages, maxRetries: 0, maxOutputTokens: 9, onError }).textStream) heard.text += text;
}

const plays = {
  "openai chat": async (heard) => {
    for await (const event of await openai.chat.completions.create({ model: "m", stream: true, messages })) heard.text += event.choices[0]?.delta?.content ?? "";
  },
  "openai chat helper": async (heard) => {
    heard.text = (await openai.chat.completions.stream({ model: "m", messages }).finalChatCompletion()).choices[0].message.content;
  },
  "openai responses": async (heard) => {
    for await (const event of await openai.responses.create({ model: "m", stream: true, input: "hi" })) {
      if (event.type === "response.output_text.delta") heard.text += event.delta;
      if (event.type === "response.failed") heard.error = event.response.error.message;
    }
  },
  anthropic: async (heard) => {
    for await (const event of await anthropic.messages.create({ model: "m", max_tokens: 9, stream: true, messages })) {
      if (event.type === "content_block_delta") heard.text += event.delta.text;
    }
  },
  "anthropic helper": async (heard) => {
    heard.text = (await anthropic.messages.stream({ model: "m", max_tokens: 9, messages }).finalMessage()).content[0].text;
  },
  google: async (heard) => {
    for await (const event of await google.models.generateContentStream({ model: "m", contents: "hi" })) heard.text += event.text ?? "";
  },
  "vercel openai chat": (heard) => vercel(createOpenAI({ baseURL: url + "/v1", apiKey: "x" }).chat("m"), heard),
  "vercel openai responses": (heard) => vercel(createOpenAI({ baseURL: url + "/v1", apiKey: "x" }).responses("m"), heard),
  "vercel anthropic": (heard) => vercel(createAnthropic({ baseURL: url + "/v1", apiKey: "x" })("m"), heard),
  "vercel google": (heard) => vercel(createGoogleGenerativeAI({ baseURL: url + "/v1beta", apiKey: "x" })("m"), heard),
};

for (const [name, play] of Object.entries(plays)) {
  const heard = { name, text: "", error: null };
  try {
    await play(heard);
  } catch (error) {
    heard.error = String(error.message);
  }
  console.log(JSON.stringify(heard));
}
