"""
A campaign as a marketing platform sends it: several processes, each a real SMTP client (smtplib) with
STARTTLS and AUTH, one message after the other over a connection that stays open.
"""

import dataclasses
import multiprocessing
import queue
import smtplib
import ssl
import time

GREETINGS = ["Dear {name}", "Hello {name}", "{name}, this is for you"]
PARAGRAPH = ("The days grow shorter and the evenings longer: time for a good lamp, a warm blanket and a book.\r\n"
             "Your code {code} takes a tenth off everything in the shop until Sunday.\r\n")


@dataclasses.dataclass
class Job:
    host: str
    port: int
    user: str
    password: str
    sender: str
    campaign: str


def compose(job, number, recipients):
    """(message id, text) of one personalised message."""
    name = recipients[0].partition("@")[0]
    message_id = f"<{job.campaign}.{number:05d}@sender.example>"
    to = recipients[0] if len(recipients) == 1 else "undisclosed-recipients:;"
    greeting = GREETINGS[number % len(GREETINGS)].format(name=name)
    body = PARAGRAPH.format(code=f"{number:05d}-{len(name)}") * (4 + number % 20)
    text = (f"From: The Shop <{job.sender}>\r\nTo: {to}\r\nSubject: {greeting}, the autumn sale begins\r\n"
            f"Date: Sat, 21 Nov 2026 09:00:00 +0000\r\nMessage-ID: {message_id}\r\n"
            f"X-Campaign: {job.campaign}\r\nX-Demo-Campaign: {job.campaign}\r\n"
            f"MIME-Version: 1.0\r\nContent-Type: text/plain; charset=us-ascii\r\n\r\n"
            f"{greeting},\r\n\r\n{body}\r\n.and a line that begins with a dot.\r\n-- \r\nThe Shop\r\n")
    return message_id, text


def worker(job, messages, accepted, failed, results):
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE  # the demonstration's daemon made its own certificate
    done = []
    client = None
    try:
        client = smtplib.SMTP(job.host, job.port, local_hostname="platform.sender.example", timeout=60)
        client.starttls(context=context)
        client.login(job.user, job.password)
        for number, recipients in messages:
            message_id, text = compose(job, number, recipients)
            refused = client.sendmail(job.sender, recipients, text)
            done.append((message_id, [r for r in recipients if r not in refused]))
            with accepted.get_lock():
                accepted.value += 1
            if refused:
                with failed.get_lock():
                    failed.value += len(refused)
        client.quit()
    except (OSError, smtplib.SMTPException) as error:
        results.put(("error", f"{type(error).__name__}: {error}"))
    results.put(("done", done))


def run(job, messages, processes=4, progress=None):
    """Injects all and returns {message id: [accepted recipients]}; `progress(accepted)` is called as it goes."""
    context = multiprocessing.get_context("fork")
    accepted, failed, results = context.Value("l", 0), context.Value("l", 0), context.Queue()
    numbered = list(enumerate(messages))
    workers = [context.Process(target=worker, args=(job, numbered[i::processes], accepted, failed, results))
               for i in range(processes)]
    for w in workers:
        w.start()
    taken, errors, finished = {}, [], 0
    while finished < len(workers):
        if progress:
            progress(accepted.value)
        try:
            kind, value = results.get(timeout=0.2)
        except queue.Empty:
            if not any(w.is_alive() for w in workers):
                time.sleep(0.2)
                if results.empty():
                    break
            continue
        if kind == "error":
            errors.append(value)
        else:
            finished += 1
            taken.update(value)
    for w in workers:
        w.join()
    if progress:
        progress(accepted.value)
    return taken, errors
