#!/usr/bin/env python3
"""Writes the body of one unary gRPC request to a file, for h2load -d.

usage: frame.py put KEY VALUE_BYTES FILE
       frame.py range KEY linearizable|serializable FILE
"""
import struct
import sys


def varint(number):
    out = bytearray()
    while number >= 0x80:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    out.append(number)
    return bytes(out)


def bytes_field(number, value):
    return varint(number << 3 | 2) + varint(len(value)) + value


def main(args):
    if len(args) != 4 or args[0] not in ("put", "range"):
        sys.exit(__doc__)
    key = args[1].encode()
    if args[0] == "put":  # etcdserverpb.PutRequest: key = 1, value = 2
        message = bytes_field(1, key) + bytes_field(2, b"v" * int(args[2]))
    else:  # etcdserverpb.RangeRequest: key = 1, serializable = 7
        message = bytes_field(1, key)
        if args[2] == "serializable":
            message += varint(7 << 3) + varint(1)
    with open(args[3], "wb") as file:
        file.write(struct.pack(">BI", 0, len(message)) + message)


main(sys.argv[1:])
