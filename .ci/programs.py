"""What the checks in Python share: programs that are started, waited for, and ended with the check, and a database."""
import glob, os, pwd, re, shutil, signal, subprocess, sys, tempfile, time, urllib.request

os.chdir(os.path.join(os.path.dirname(os.path.abspath(__file__)), ".."))
FOLDER = tempfile.mkdtemp()
STARTED = []


def start(name, command, **settings):
    """Starts a program, whose output is `log(name)`."""
    with open(f"{FOLDER}/{name}.log", "a") as output:
        process = subprocess.Popen(command, stdout=output, stderr=output, stdin=subprocess.DEVNULL, env={**os.environ, **settings})
    STARTED.append(process)
    return process


def stop(process):
    """How long it takes from SIGTERM to the exit, in seconds. The exit code has to be 0."""
    began = time.monotonic()
    process.send_signal(signal.SIGTERM)
    if process.wait(20) != 0:
        raise SystemExit(f"exit code {process.returncode}")
    return time.monotonic() - began


def log(name):
    """What the program has printed."""
    try:
        with open(f"{FOLDER}/{name}.log") as file:
            return file.read()
    except FileNotFoundError:
        return ""


def wait(what, condition, seconds=60):
    """What the condition gives, once it gives something."""
    deadline = time.monotonic() + seconds
    while not (value := condition()):
        if time.monotonic() > deadline:
            raise SystemExit(f"not within {seconds} s: {what() if callable(what) else what}")
        time.sleep(0.1)
    return value


def cpu_seconds(process):
    """The CPU time it has taken."""
    with open(f"/proc/{process.pid}/stat") as stat:
        fields = stat.read().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def get(url):
    """The body of an answer of 2xx, else None."""
    try:
        with urllib.request.urlopen(url, timeout=5) as answer:
            return answer.read().decode()
    except OSError:
        return None


def database():
    """Starts `cargo dev`, which is there for its database; gives the folder of the socket and the port."""
    start("dev", ["cargo", "dev"])
    line = wait("cargo dev is ready", lambda: re.search(r"^  database +psql -h (\S+) -p (\d+)", log("dev"), re.M), 600)
    for port in (4004, 4005):
        wait("the database is migrated", lambda: get(f"http://127.0.0.1:{port}/readyz"))
    return line.groups()


def standby(socket, port, number):
    """Starts a streaming standby of that database, which asks this machine for no password; gives its port."""
    owner = pwd.getpwuid(os.stat(socket).st_uid).pw_name
    # As root its server may not run, and what it needs is reached by its own user alone.
    user = ["runuser", "-u", owner, "--"] if os.getuid() == 0 else []
    bin = shutil.which("pg_basebackup") and "" or max(glob.glob("/usr/lib/postgresql/*/bin/"), key=lambda path: int(path.split("/")[4]))
    data, its_port = f"{socket}/standby{number}", str(int(port) + number)
    subprocess.run([*user, f"{bin}pg_basebackup", "--dbname", f"host={socket} port={port} user=postgres", "--pgdata", data,
                    "--checkpoint=fast", "--write-recovery-conf"], check=True, cwd="/")
    with open(f"{data}/pg_hba.conf", "w") as access:
        access.write("local all all trust\nhost all all 127.0.0.1/32 trust\n")
    start(f"standby{number}", [*user, f"{bin}postgres", "-D", data, "-p", its_port, "-k", socket, "-c", "listen_addresses=127.0.0.1"])
    return its_port


def run(main, *logs):
    """Runs the check, and ends what it has started however it ends; if it fails, with the ends of these logs."""
    # A time limit ends it in order too.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    passed = False
    try:
        main()
        passed = True
    finally:
        for process in reversed(STARTED):
            if process.poll() is None:
                process.terminate()
        for process in STARTED:
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()
        for name in () if passed else logs:
            print(f"--- the end of {name}'s log\n{log(name)[-3000:]}")
        shutil.rmtree(FOLDER, ignore_errors=True)
