from tests.support.raw_smtp import listening


async def test_a_plain_session():
    async with listening() as server:
        client = await server.connect()
        assert await client.say("EHLO c.test") == (
            "250-mx.test\n250-PIPELINING\n250-SIZE 52428800\n250-8BITMIME\n250-SMTPUTF8\n250-ENHANCEDSTATUSCODES\n"
            "250-DSN\n250-CHUNKING\n250 LIMITS RCPTMAX=1000"
        )
        assert await client.say("MAIL FROM:<s@ext.test> SIZE=20 BODY=8BITMIME RET=HDRS ENVID=e1") == (
            "250 2.1.0 Sender OK"
        )
        assert await client.say("RCPT TO:<User@Local.test> NOTIFY=NEVER ORCPT=rfc822;u") == "250 2.1.5 Recipient OK"
        assert (await client.say("DATA")).startswith("354 ")
        assert await client.say(b"Subject: x\r\n\r\n..hi\r\n.\r\n") == "250 2.0.0 Queued as m1"
        assert await client.say("QUIT") == "221 2.0.0 mx.test closing"
        assert await client.rest() == ""
        (message,) = server.handler.messages
        assert message.octets == b"Subject: x\r\n\r\n.hi\r\n"
        transaction = message.transaction
        assert (transaction.sender, transaction.sender_domain) == ("s@ext.test", "ext.test")
        assert (transaction.declared_size, transaction.eightbit, transaction.smtputf8) == (20, True, False)
        assert (transaction.ret, transaction.envid) == ("HDRS", "e1")
        (recipient,) = transaction.recipients
        assert (recipient.address, recipient.domain) == ("User@Local.test", "local.test")
        assert (recipient.notify, recipient.orcpt) == ("NEVER", "rfc822;u")
        assert message.peer.helo == "c.test"
        assert message.peer.address == "127.0.0.1"
