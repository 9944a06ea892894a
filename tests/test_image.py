"""Every picture that people have can be read, everything else is refused with one sentence."""

import io
import struct
import zlib

import numpy as np
import pytest
from PIL import Image, features

from diverse3d._errors import InputError
from diverse3d.observe import read_mask, read_photo, write_png


@pytest.fixture
def rgb(rng: np.random.Generator) -> np.ndarray:
    """A small smooth picture without symmetry."""
    coarse = Image.fromarray(rng.integers(0, 256, (5, 7, 3), dtype=np.uint8))
    return np.array(coarse.resize((63, 45), Image.Resampling.BICUBIC))


def luma(rgb: np.ndarray) -> np.ndarray:
    return np.array(Image.fromarray(rgb).convert("L"))


@pytest.mark.parametrize("suffix", ["png", "bmp", "tiff", "webp", "jpg", "gif"])
def test_every_format_reads(tmp_path, rgb, suffix):
    path = tmp_path / f"picture.{suffix}"
    options = {"webp": {"lossless": True}, "jpg": {"quality": 98, "subsampling": 0}}.get(suffix, {})
    Image.fromarray(rgb).save(path, **options)
    error = np.abs(read_photo(path).astype(int) - rgb.astype(int)).mean()
    assert error <= {"jpg": 3.0, "gif": 12.0}.get(suffix, 0.0)


def test_grey_16_bit_is_scaled_not_clipped(tmp_path, rgb):
    wide = luma(rgb).astype(np.uint16) * 257
    for suffix in ("png", "tiff"):
        Image.fromarray(wide).save(tmp_path / f"wide.{suffix}")
        read = read_photo(tmp_path / f"wide.{suffix}")
        assert np.array_equal(read, np.repeat(luma(rgb)[..., None], 3, axis=2))


def test_grey_palette_and_one_bit(tmp_path, rgb):
    grey = Image.fromarray(luma(rgb))
    for name, image in {"L": grey, "1": grey.convert("1"), "P": Image.fromarray(rgb).quantize(64)}.items():
        image.save(tmp_path / "picture.png")
        assert np.array_equal(read_photo(tmp_path / "picture.png"), np.array(image.convert("RGB"))), name


def test_cmyk_reads(tmp_path, rgb):
    Image.fromarray(rgb).convert("CMYK").save(tmp_path / "print.jpg", quality=98, subsampling=0)
    assert np.abs(read_photo(tmp_path / "print.jpg").astype(int) - rgb.astype(int)).mean() < 6.0


@pytest.mark.parametrize("mode", ["RGBA", "LA"])
def test_transparency_is_laid_over_white(tmp_path, rgb, mode):
    image = Image.fromarray(rgb).convert(mode)
    alpha = np.full(rgb.shape[:2], 255, dtype=np.uint8)
    alpha[:20] = 0
    image.putalpha(Image.fromarray(alpha))
    image.save(tmp_path / "picture.png")
    read = read_photo(tmp_path / "picture.png")
    assert (read[:20] == 255).all()
    assert np.array_equal(read[20:], np.array(image.convert("RGB"))[20:])


def test_palette_transparency_is_laid_over_white(tmp_path):
    image = Image.new("P", (8, 8), 1)
    image.putpalette([10, 20, 30, 40, 50, 60])
    image.paste(0, (0, 0, 4, 8))
    image.save(tmp_path / "picture.png", transparency=0)
    read = read_photo(tmp_path / "picture.png")
    assert (read[:, :4] == 255).all()
    assert (read[:, 4:] == [40, 50, 60]).all()


@pytest.mark.parametrize("suffix", ["gif", "webp", "png", "tiff"])
def test_first_frame_of_several(tmp_path, suffix):
    frames = [Image.new("RGB", (16, 12), colour) for colour in ("#c80000", "#00c800")]
    path = tmp_path / f"moving.{suffix}"
    options = {"lossless": True} if suffix == "webp" else {}
    frames[0].save(path, save_all=True, append_images=frames[1:], **options)
    assert (read_photo(path) == [200, 0, 0]).all()


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("suffix", ["png", "tiff"])
def test_orientation_tag_is_honoured(tmp_path, rgb, orientation, suffix):
    raw = {
        1: rgb,
        2: rgb[:, ::-1],
        3: rgb[::-1, ::-1],
        4: rgb[::-1],
        5: rgb.transpose(1, 0, 2),
        6: np.rot90(rgb, 1),
        7: np.rot90(rgb, 2).transpose(1, 0, 2),
        8: np.rot90(rgb, -1),
    }[orientation]
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = tmp_path / f"turned.{suffix}"
    Image.fromarray(np.ascontiguousarray(raw)).save(path, exif=exif)
    assert np.array_equal(read_photo(path), rgb)


def test_unreadable_metadata_is_ignored(tmp_path, rgb):
    Image.fromarray(rgb).save(tmp_path / "odd.png", exif=b"Exif\x00\x00II*\x00\xff\xff\xff\xffnonsense")
    assert np.array_equal(read_photo(tmp_path / "odd.png"), rgb)


def test_large_pictures_are_scaled_down(tmp_path, rgb):
    Image.fromarray(rgb).resize((630, 450)).save(tmp_path / "large.png")
    read = read_photo(tmp_path / "large.png", max_side=63)
    assert read.shape == (45, 63, 3)
    assert np.array_equal(read, read_photo(tmp_path / "large.png", max_side=63))
    Image.new("RGB", (4000, 1)).save(tmp_path / "thin.png")
    assert read_photo(tmp_path / "thin.png").shape == (1, 2048, 3)


def bomb(width: int, height: int) -> bytes:
    """A PNG that declares a huge size in a few bytes."""

    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")


@pytest.mark.parametrize("size", [(10_500, 10_500), (12_000, 12_000), (60_000, 60_000)])
def test_declared_size_is_checked_before_decoding(tmp_path, size):
    (tmp_path / "bomb.png").write_bytes(bomb(*size))
    with pytest.raises(InputError, match="more than 100 million pixels"):
        read_photo(tmp_path / "bomb.png")


def test_what_is_no_picture(tmp_path, rgb):
    with pytest.raises(InputError, match="There is no file"):
        read_photo(tmp_path / "absent.png")
    with pytest.raises(InputError, match="not a file"):
        read_photo(tmp_path)
    for content in (b"", b"hello", b"%PDF-1.4 and so on"):
        (tmp_path / "text.png").write_bytes(content)
        with pytest.raises(InputError, match="not a picture"):
            read_photo(tmp_path / "text.png")
    Image.fromarray(np.zeros((4, 4), dtype=np.float32)).save(tmp_path / "float.tiff")
    with pytest.raises(InputError, match="floating-point"):
        read_photo(tmp_path / "float.tiff")


@pytest.mark.parametrize("suffix", ["png", "bmp", "tiff", "webp", "jpg", "gif"])
def test_damage_never_escapes_as_another_error(tmp_path, rgb, rng, suffix):
    stream = io.BytesIO()
    Image.fromarray(rgb).save(stream, format={"jpg": "JPEG"}.get(suffix, suffix.upper()))
    whole, path = stream.getvalue(), tmp_path / f"damaged.{suffix}"
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(InputError, match=r"damaged|not a picture"):
        read_photo(path)
    for _ in range(150):
        damaged = bytearray(whole)
        for place in rng.integers(0, min(len(whole), 400), rng.integers(1, 6)):
            damaged[place] = rng.integers(256)
        path.write_bytes(damaged)
        try:
            read_photo(path, max_pixels=1_000_000)
        except InputError as error:
            assert "\n" not in str(error)


def test_mask_white_hides(tmp_path):
    values = np.array([[0, 127], [128, 255]], dtype=np.uint8)
    Image.fromarray(values).save(tmp_path / "mask.png")
    assert np.array_equal(read_mask(tmp_path / "mask.png", (2, 2)), [[False, False], [True, True]])
    assert np.array_equal(read_mask(tmp_path / "mask.png", (4, 4)), np.kron(values >= 128, np.ones((2, 2))) > 0)


def test_transparent_mask_hides_nothing(tmp_path):
    Image.new("RGBA", (6, 6), (255, 255, 255, 0)).save(tmp_path / "mask.png")
    assert not read_mask(tmp_path / "mask.png", (6, 6)).any()


@pytest.mark.parametrize("colour", [(255, 0, 0), (0, 0, 0), (40, 40, 40)])
def test_paint_of_any_colour_on_a_transparent_picture_hides(tmp_path, colour):
    picture = np.zeros((6, 6, 4), np.uint8)
    picture[2:4, 1:5] = (*colour, 255)
    Image.fromarray(picture).save(tmp_path / "mask.png")
    np.testing.assert_array_equal(read_mask(tmp_path / "mask.png", (6, 6)), picture[..., 3] > 0)
    picture[0, 0] = 255  # white somewhere: then it is white that hides, as without transparency
    Image.fromarray(picture).save(tmp_path / "mask.png")
    assert read_mask(tmp_path / "mask.png", (6, 6)).sum() == 1


@pytest.mark.skipif(not features.check("avif"), reason="this Pillow reads no AVIF")
def test_avif_reads_where_pillow_can(tmp_path, rgb):
    Image.fromarray(rgb).save(tmp_path / "a.avif", quality=95)
    assert np.abs(read_photo(tmp_path / "a.avif").astype(int) - rgb).mean() < 12
    with pytest.raises(InputError, match="declares more"):
        read_photo(tmp_path / "a.avif", max_pixels=10)


@pytest.mark.parametrize("brand", [b"heic", b"mif1"])
def test_a_phones_picture_says_the_way_out(tmp_path, brand):
    (tmp_path / "a.heic").write_bytes(b"\0\0\0\x18ftyp" + brand + b"\0\0\0\0mif1heic")
    with pytest.raises(InputError, match="HEIC picture, which can't be read here: save it as JPEG or PNG"):
        read_photo(tmp_path / "a.heic")


def test_mask_of_another_shape_is_refused(tmp_path):
    Image.new("L", (100, 100), 255).save(tmp_path / "mask.png")
    assert read_mask(tmp_path / "mask.png", (301, 300)).all()
    with pytest.raises(InputError, match="does not fit"):
        read_mask(tmp_path / "mask.png", (300, 320))


def test_written_pictures_come_back(tmp_path, rgb):
    mask = luma(rgb) > 128
    write_png(tmp_path / "a.png", rgb)
    write_png(tmp_path / "b.png", rgb)
    write_png(tmp_path / "mask.png", mask)
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()
    assert np.array_equal(read_photo(tmp_path / "a.png"), rgb)
    assert np.array_equal(read_mask(tmp_path / "mask.png", mask.shape), mask)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.png", "b.png", "mask.png"]


def test_unwritable_place(tmp_path, rgb):
    with pytest.raises(InputError, match="Can't write"):
        write_png(tmp_path / "no" / "such" / "folder.png", rgb)
