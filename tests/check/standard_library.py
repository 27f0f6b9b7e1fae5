"""Operations of the standard library, written as careful people write them.

What they need lies in a directory that belongs to the test; its path is in DIRECTORY.
"""

import asyncio
import bz2
import concurrent.futures
import configparser
import csv
import dbm.dumb
import glob
import gzip
import json
import logging
import lzma
import mmap
import multiprocessing
import os
import pathlib
import runpy
import select
import selectors
import shutil
import socket
import socketserver
import sqlite3
import subprocess
import tarfile
import tempfile
import threading
import urllib.request
import wave
import zipfile

DIRECTORY = pathlib.Path(os.environ["OPERATION_DIRECTORY"])
FILE = DIRECTORY / "file"


def open_and_read() -> None:
    with open(FILE) as file:
        file.read()


def write_and_replace() -> None:
    path = DIRECTORY / "new"
    with open(path, "w") as file:
        file.write("text")
        file.flush()
        os.fsync(file.fileno())
    os.replace(path, DIRECTORY / "replaced")


def path_read_write() -> None:
    (DIRECTORY / "written").write_text(FILE.read_text())


def temporary_file() -> None:
    with tempfile.TemporaryFile(dir=DIRECTORY) as file:
        file.write(b"x")


def named_temporary_file() -> None:
    with tempfile.NamedTemporaryFile("w", dir=DIRECTORY) as file:
        file.write("x")


def temporary_directory() -> None:
    with tempfile.TemporaryDirectory(dir=DIRECTORY) as directory:
        pathlib.Path(directory, "file").touch()


def spooled_temporary_file() -> None:
    with tempfile.SpooledTemporaryFile(max_size=1, dir=str(DIRECTORY)) as file:
        file.write(b"more than one")


def walk_and_glob() -> None:
    list(os.walk(DIRECTORY))
    glob.glob(str(DIRECTORY / "*"))


def scandir() -> None:
    with os.scandir(DIRECTORY) as entries:
        list(entries)


def fwalk() -> None:
    for *_, directory in os.fwalk(DIRECTORY):
        os.fstat(directory)


def copy_and_remove_tree() -> None:
    copy = DIRECTORY / "copy"
    shutil.rmtree(copy, ignore_errors=True)
    shutil.copytree(DIRECTORY / "tree", copy)
    shutil.rmtree(copy)


def copy_file() -> None:
    shutil.copyfile(FILE, DIRECTORY / "copied")


def memory_map() -> None:
    with open(FILE, "rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as map:
        map[:1]


def compressed() -> None:
    for module in (gzip, bz2, lzma):
        with module.open(DIRECTORY / "compressed", "wb") as file:
            file.write(b"x")
        with module.open(DIRECTORY / "compressed", "rb") as file:
            file.read()


def zip_archive() -> None:
    with zipfile.ZipFile(DIRECTORY / "archive.zip", "w") as archive:
        archive.write(FILE, "name")
    with zipfile.ZipFile(DIRECTORY / "archive.zip") as archive:
        archive.read("name")


def tar_archive() -> None:
    with tarfile.open(DIRECTORY / "archive.tar.gz", "w:gz") as archive:
        archive.add(FILE, "name")
    with tarfile.open(DIRECTORY / "archive.tar.gz") as archive:
        archive.getnames()


def text_formats() -> None:
    with open(DIRECTORY / "rows", "w", newline="") as file:
        csv.writer(file).writerow([1, 2])
    with open(DIRECTORY / "data", "w") as file:
        json.dump({}, file)
    configparser.ConfigParser().read(DIRECTORY / "none")


def log_file() -> None:
    handler = logging.FileHandler(DIRECTORY / "log")
    try:
        handler.emit(logging.makeLogRecord({"msg": "x"}))
    finally:
        handler.close()


def wave_file() -> None:
    with wave.open(str(DIRECTORY / "sound"), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(1)
        file.setframerate(8000)
        file.writeframes(b"\0")


def simple_database() -> None:
    with dbm.dumb.open(str(DIRECTORY / "dumb"), "c") as database:
        database[b"key"] = b"value"


def sqlite_database() -> None:
    connection = sqlite3.connect(DIRECTORY / "database")
    try:
        connection.execute("create table if not exists t (a)")
        connection.commit()
    finally:
        connection.close()


def socket_pair() -> None:
    here, there = socket.socketpair()
    with here, there:
        here.sendall(b"x")
        there.recv(1)


def connect_to_server() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        with socket.create_connection(server.getsockname()) as client:
            connection, _ = server.accept()
            with connection:
                client.sendall(b"x")
                connection.recv(1)


def tcp_server() -> None:
    with socketserver.TCPServer(("127.0.0.1", 0), socketserver.BaseRequestHandler):
        pass


def pass_a_descriptor() -> None:
    here, there = socket.socketpair(socket.AF_UNIX)
    with here, there, open(FILE) as file:
        socket.send_fds(here, [b"x"], [file.fileno()])
        _, numbers, _, _ = socket.recv_fds(there, 1, 1)
        for number in numbers:
            os.close(number)


def selector() -> None:
    here, there = socket.socketpair()
    with here, there, selectors.DefaultSelector() as waiting:
        waiting.register(here, selectors.EVENT_READ)
        waiting.select(0)


def epoll() -> None:
    with select.epoll() as waiting:
        waiting.poll(0)


def run_a_command() -> None:
    subprocess.run(["true"], check=True)


def run_and_capture() -> None:
    subprocess.run(["true"], input=b"", capture_output=True, check=True)


def popen_with_pipes() -> None:
    with subprocess.Popen(["true"], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        process.communicate(b"")


def command_output() -> None:
    with os.popen("true") as stream:
        stream.read()


def thread() -> None:
    one = threading.Thread(target=open_and_read)
    one.start()
    one.join()


def thread_pool() -> None:
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        pool.submit(open_and_read).result()


async def coroutine() -> None:
    await asyncio.sleep(0)


async def coroutine_in_thread() -> None:
    await asyncio.to_thread(open_and_read)


async def coroutine_server() -> None:
    server = await asyncio.start_server(lambda *_: None, "127.0.0.1", 0)
    async with server:
        pass


async def coroutine_command() -> None:
    process = await asyncio.create_subprocess_exec("true")
    await process.wait()


async def coroutine_command_with_pipes() -> None:
    process = await asyncio.create_subprocess_exec(
        "true", stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    await process.communicate(b"")


def connection_pipe() -> None:
    here, there = multiprocessing.Pipe()
    with here, there:
        here.send(1)
        there.recv()


def forked_process() -> None:
    process = multiprocessing.get_context("fork").Process(target=int)
    process.start()
    process.join()
    process.close()


def run_a_script() -> None:
    runpy.run_path(str(DIRECTORY / "script.py"))


def file_url() -> None:
    with urllib.request.urlopen(FILE.as_uri()) as response:
        response.read()


def pseudo_terminal() -> None:
    first, second = os.openpty()
    os.close(first)
    os.close(second)
