// A square inside a photo, in pixels of the upright photo at its full size, as the API reads a crop.

const MIN_SHARE = 0.1; // of the short side

const clamp = (value, least, most) => Math.max(least, Math.min(value, most));

export class Square {
  /** `minSide` is the smallest side that the API accepts. */
  constructor(width, height, minSide) {
    Object.assign(this, { width, height, minSide });
    this.center();
  }

  get short() {
    return Math.min(this.width, this.height);
  }

  /** Free pixels beside the square and above or below it. */
  get room() {
    return { x: this.width - this.side, y: this.height - this.side };
  }

  /** Side as a share of the short side, 1 at most. */
  get share() {
    return this.side / this.short;
  }

  get minShare() {
    return Math.min(1, Math.max(MIN_SHARE, this.minSide / this.short));
  }

  /** The largest square in the middle, which the service uses if no crop is sent. */
  center() {
    this.side = this.short;
    this.x = Math.floor(this.room.x / 2);
    this.y = Math.floor(this.room.y / 2);
  }

  moveTo(x, y) {
    this.x = clamp(Math.round(x), 0, this.room.x);
    this.y = clamp(Math.round(y), 0, this.room.y);
  }

  moveMiddleTo(x, y) {
    this.moveTo(x - this.side / 2, y - this.side / 2);
  }

  /** Change the side and keep the middle, as far as the square stays inside the photo. */
  resize(share) {
    const middle = [this.x + this.side / 2, this.y + this.side / 2];
    this.side = Math.round(clamp(share, this.minShare, 1) * this.short);
    this.moveMiddleTo(...middle);
  }

  contains({ x, y }) {
    return x >= this.x && x <= this.x + this.side && y >= this.y && y <= this.y + this.side;
  }

  /** Use the size that the service reads: browsers may show another one if a photo declares its resolution. */
  scaleTo(width, height) {
    const scale = width / this.width;
    const { x, y, side } = this;
    const isCentered = this.crop() === null;
    Object.assign(this, { width, height });
    this.center();
    if (isCentered) return;
    this.side = clamp(Math.round(side * scale), Math.min(this.minSide, this.short), this.short);
    this.moveTo(x * scale, y * scale);
  }

  /** Return the crop for the API, or null for the square that it uses anyway. */
  crop() {
    const { x, y, side, room } = this;
    const isDefault = side === this.short && x === Math.floor(room.x / 2) && y === Math.floor(room.y / 2);
    return isDefault ? null : { x, y, side };
  }
}
