// Judges requests by Adyen's own models: reads [{model, body}] and writes the flaws of each as a list of sentences.
// A property that a model does not have, one of another type, and a required one that is missing are flaws.
"use strict";
const fs = require("fs");
const path = require("path");

const root = path.join(process.argv[2], "node_modules", "@adyen", "api-library", "lib", "src", "typings", "checkout");
const file = (name) => path.join(root, name[0].toLowerCase() + name.slice(1));

function model(name) {
  return fs.existsSync(file(name) + ".js") ? require(file(name) + ".js")[name] : undefined;
}

function required(name) {
  const text = fs.readFileSync(file(name) + ".d.ts", "utf8");
  return [...text.matchAll(/^\s+['"](\w+)['"]: /gm)].map((found) => found[1]);
}

function flaws(value, type, at) {
  for (const option of type.split(" | ")) {
    if (option === "null") continue;
    const list = option.match(/^Array<(.*)>$/);
    const map = option.match(/^\{ \[key: string\]: (.*); \}$/);
    if (list) return Array.isArray(value) ? value.flatMap((each, n) => flaws(each, list[1], `${at}[${n}]`)) : [`${at} is no list`];
    if (map) return Object.entries(value).flatMap(([key, each]) => flaws(each, map[1], `${at}.${key}`));
    if (["string", "number", "boolean"].includes(option)) return typeof value === option ? [] : [`${at} is no ${option}`];
    if (option === "any") return [];
    if (option.includes(".")) return enumFlaws(value, option, at);
    return ofModel(value, option, at);
  }
  return [`${at} has no type`];
}

function enumFlaws(value, option, at) {
  const [owner, name] = option.split(".");
  const values = Object.values(model(owner)[name]);
  return values.includes(value) ? [] : [`${at} is ${value}, none of ${values.join(", ")}`];
}

function ofModel(value, name, at) {
  const found = model(name);
  if (!found && fs.existsSync(file(name) + ".d.ts")) return oneOf(value, name, at);
  if (!found) return [`${at} has the unknown model ${name}`];
  const known = new Map(found.getAttributeTypeMap().map((each) => [each.baseName, each.type]));
  const missing = required(name).filter((each) => !(each in value)).map((each) => `${at}.${each} is missing`);
  const wrong = Object.entries(value).flatMap(([key, each]) =>
    known.has(key) ? flaws(each, known.get(key), `${at}.${key}`) : [`${at}.${key} is unknown to ${name}`]);
  return [...missing, ...wrong];
}

// A model that is one of several: any of those that its type lists may fit.
function oneOf(value, name, at) {
  const text = fs.readFileSync(file(name) + ".d.ts", "utf8");
  const options = text.match(/export type \w+ = ([^;]+);/)[1].split(" | ").map((each) => each.trim());
  const tried = options.map((option) => ofModel(value, option, at));
  return tried.some((each) => each.length === 0) ? [] : tried.reduce((a, b) => (a.length <= b.length ? a : b));
}

const requests = JSON.parse(fs.readFileSync(0, "utf8"));
process.stdout.write(JSON.stringify(requests.map(({ model: name, body }) => ofModel(body, name, name))));
