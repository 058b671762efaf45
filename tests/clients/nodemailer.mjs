// Sends one message with nodemailer: node nodemailer.mjs FOLDER PORT USER PASSWORD CERTIFICATE
import { createRequire } from "node:module";
import { readFileSync } from "node:fs";

const [folder, port, user, pass, certificate] = process.argv.slice(2);
const nodemailer = createRequire(`${folder}/`)("nodemailer");
const transport = nodemailer.createTransport({
  host: "localhost",
  port: Number(port),
  secure: false,
  requireTLS: true,
  auth: { user, pass },
  tls: { ca: [readFileSync(certificate)] },
});
const sent = await transport.sendMail({
  from: "App <app@example.test>",
  to: ["one@example.test", "two@example.test"],
  bcc: "hidden@example.test",
  subject: "Grüße from Node",
  text: "A line.\n.\n.. dots\n",
  html: "<p>A line.</p>",
  attachments: [{ filename: "data.bin", content: Buffer.from([0, 1, 2, 255]) }],
});
console.log(sent.response);
