#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Makes from opcodes.def what the C preprocessor cannot: ops.inc, each operation once, and index.inc, which tells for
every map and opcode where its rows begin and how many they are.

usage: gen.py opcodes.def ops.inc index.inc"""

import re
import sys

MAPS = ['1', '0F', '0F38', '0F3A', 'V0F', 'V0F38', 'V0F3A']


def read_rows(path):
    for number, line in enumerate(open(path), 1):
        if line.startswith('INSN'):
            columns = re.fullmatch(r'INSN\((.*)\)\s*', line)
            if not columns:
                sys.exit(f'{path}:{number}: not a row')
            columns = [column.strip() for column in columns[1].split(',')]
            if len(columns) != 11 or columns[0] not in MAPS:
                sys.exit(f'{path}:{number}: not 11 columns, or no such map')
            yield number, columns


def main():
    source, ops_path, index_path = sys.argv[1:]
    names, index, last = {}, {}, (-1, -1)
    for row, (number, columns) in enumerate(read_rows(source)):
        key = MAPS.index(columns[0]), int(columns[1], 16)
        if key < last:
            sys.exit(f'{source}:{number}: out of order')
        last = key
        names[columns[4]] = True
        takes_eight = any(operand.startswith('Z') for operand in columns[5:9])
        for opcode in range(key[1], key[1] + (8 if takes_eight else 1)):
            first, count = index.get((key[0], opcode), (row, 0))
            if first + count != row:
                sys.exit(f'{source}:{number}: rows of one opcode must stand together')
            index[key[0], opcode] = first, count + 1

    note = '/* Made by gen.py from opcodes.def. */\n'
    with open(ops_path, 'w') as out:
        out.write(note + ''.join(f'OP({name})\n' for name in names))
    with open(index_path, 'w') as out:
        out.write(note)
        for (table, opcode), (first, count) in sorted(index.items()):
            out.write(f'[{table * 256 + opcode:#05x}] = {{ {first}, {count} }},\n')


main()
