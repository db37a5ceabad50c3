"""An SMTP server for the tests: it writes what it takes as a line of JSON each, and answers as recipients and senders say.

The part of an address before the @ says the answer: `answer-450@…` as a recipient is answered with 450 to RCPT, `data-552@…` as a
sender with 552 to the message. A recipient `stall@…` is never answered.
"""

import argparse
import asyncio
import json
import ssl

from aiosmtpd.smtp import SMTP, AuthResult, LoginPassword


def answer(address, kind):
    local = address.split("@")[0]
    return f"{local.removeprefix(kind)} as was wished" if local.startswith(kind) else None


class Handler:
    def __init__(self, log):
        self.log = log

    async def handle_RCPT(self, server, session, envelope, address, options):
        if address.startswith("stall@"):
            await asyncio.Event().wait()
        refusal = answer(address, "answer-")
        if refusal:
            return refusal
        envelope.rcpt_tos.append(address)
        return "250 OK"

    async def handle_DATA(self, server, session, envelope):
        refusal = answer(envelope.mail_from, "data-")
        if refusal:
            return refusal
        mail = {
            "connection": session.peer[1],
            "encrypted": session.ssl is not None,
            "user": session.auth_data.login.decode() if session.auth_data else None,
            "from": envelope.mail_from,
            "to": envelope.rcpt_tos,
            "content": envelope.content.decode(),
        }
        with open(self.log, "a") as log:
            log.write(json.dumps(mail) + "\n")
        return "250 taken"


def authenticate(server, session, envelope, mechanism, login):
    known = isinstance(login, LoginPassword) and (login.login, login.password) == (b"me", b"hunter2")
    return AuthResult(success=known, handled=False, auth_data=login if known else None)


async def main():
    args = argparse.ArgumentParser()
    args.add_argument("--port", type=int)
    args.add_argument("--log")
    args.add_argument("--cert")
    args.add_argument("--key")
    args.add_argument("--encryption", choices=["starttls", "implicit", "none"])
    args.add_argument("--auth", action="store_true")
    args = args.parse_args()
    tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    tls.load_cert_chain(args.cert, args.key)
    by_starttls = args.encryption == "starttls"

    def serve():
        return SMTP(
            Handler(args.log),
            hostname="localhost",
            enable_SMTPUTF8=args.encryption != "none",
            tls_context=tls if by_starttls else None,
            require_starttls=by_starttls,
            authenticator=authenticate,
            auth_required=args.auth,
            auth_require_tls=by_starttls,
        )

    context = tls if args.encryption == "implicit" else None
    server = await asyncio.get_running_loop().create_server(serve, "127.0.0.1", args.port, ssl=context)
    await server.serve_forever()


asyncio.run(main())
