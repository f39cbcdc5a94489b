"""What reads of analog arrays cost: converters, cells and time, by closed forms."""

from penstock.backbones import Block, Setting, matrices, restrict
from penstock.backbones.knob import numbers
from penstock.hardware.converters import adc_j, adc_s, dac_j
from penstock.hardware.cost import Cost


def array_cost(
    block: Block,
    setting: Setting,
    shape: tuple[int, ...],
    *,
    reads: float,
    mac_j: float,
    input_bits: float,
    output_bits: float,
    read_s: float,
    tile_rows: int,
    tile_columns: int,
    columns_per_adc: int,
) -> Cost:
    """Of one input through a block whose matrices lie in tiles of cells.

        energy  = reads * sum over matrices of vectors * (rows * columns * mac_j
                  + row tiles * columns * adc_j + groups * column tiles * rows * dac_j)
        latency = reads * sum over matrices of vectors * (read_s + columns_per_adc * adc_s)

    A tile holds whole channels of one group, with all taps of the kernel. Tiles work at the same
    time, vectors one after the other.

    Args:
        block: of which the matrices are.
        setting: of its knobs; a mask leaves nothing out.
        shape: of the input, (C, H, W).
        reads: of every product.
        mac_j: joules of a multiply-accumulate in the cells.
        input_bits: of the converters at the rows.
        output_bits: of those at the columns.
        read_s: seconds of a read before conversion.
        tile_rows: of an array.
        tile_columns: of an array.
        columns_per_adc: that share a converter, one after the other.
    """
    energy_j = latency_s = 0.0
    for matrix in matrices(block, numbers(restrict(setting, block)), shape):
        row_tiles = -(-matrix.rows // (channels_of_a_tile(tile_rows, matrix.taps) * matrix.taps))
        columns = matrix.columns // matrix.groups
        column_tiles = -(-columns // tile_columns)
        a_vector_j = (
            matrix.rows * matrix.columns * mac_j
            + row_tiles * matrix.columns * adc_j(output_bits)
            + matrix.groups * column_tiles * matrix.rows * dac_j(input_bits)
        )
        shared = min(columns, columns_per_adc)
        a_vector_s = read_s + shared * adc_s(output_bits, min(matrix.rows, tile_rows))
        energy_j += reads * matrix.vectors * a_vector_j
        latency_s += reads * matrix.vectors * a_vector_s
    return Cost(energy_j=energy_j, latency_s=latency_s)


def channels_of_a_tile(tile_rows: int, taps: int) -> int:
    """How many channels lie on the rows of a tile; a kernel with more taps is not cut."""
    return max(1, tile_rows // taps)
